//! Sessions by who sends first, how they end, and whether our sending side is shut down.

use std::time::Duration;

use crate::harness::{Peer, netkit};

#[derive(Clone, Copy, PartialEq)]
enum First {
    Client,
    Peer,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The peer closes while our input is open.
    PeerCloses,
    /// Our input ends, and then the peer answers.
    InputEnds,
    /// Our input has ended before the peer reads anything.
    InputEndsBeforePeerReads,
    /// The peer sends everything and shuts down before it reads.
    PeerShutsDownThenReads,
    /// The peer reads to our end, answers and shuts down.
    PeerReadsThenShutsDown,
}

fn session(first: First, end: End, no_shutdown: bool) {
    let peer = Peer::listen(move |mut connection| {
        if end == End::InputEndsBeforePeerReads {
            connection.hold_for(Duration::from_millis(50));
        }
        if first == First::Peer {
            connection.send("greeting ");
        }
        if end == End::PeerShutsDownThenReads {
            connection.send("answer");
            connection.shutdown();
            connection.expect("question");
            connection.expect_eof();
            return;
        }
        connection.expect("question");
        if end != End::PeerCloses && no_shutdown {
            connection.expect_nothing_for(Duration::from_millis(50));
        } else if end != End::PeerCloses {
            connection.expect_eof();
        }
        connection.send("answer");
        if end == End::PeerReadsThenShutsDown {
            connection.shutdown();
            connection.drain();
        }
    });
    let options = if no_shutdown {
        &["--no-shutdown"][..]
    } else {
        &[]
    };
    let client = netkit(["tcp-client", peer.address()].iter().chain(options));
    let greeting = if first == First::Peer {
        "greeting "
    } else {
        ""
    };
    let client = if end == End::PeerCloses {
        // An input that has delivered something is read to its end.
        client.args(["--half-close-wait", "0.5"])
    } else {
        client
    };
    let client = client.stdin_open().any_stdout();
    let mut client = client.start();
    client.send("question");
    if end != End::PeerCloses {
        client.close_input();
    }
    client.receive(format!("{greeting}answer"));
    client.finish();
    peer.finish();
}

macro_rules! sessions {
    ($($name:ident: $first:ident, $end:ident, $no_shutdown:literal;)*) => {
        $(
            #[test]
            fn $name() {
                session(First::$first, End::$end, $no_shutdown);
            }
        )*
    };
}

sessions! {
    client_starts_then_peer_closes: Client, PeerCloses, false;
    client_starts_then_input_ends: Client, InputEnds, false;
    client_starts_then_input_ends_before_the_peer_reads: Client, InputEndsBeforePeerReads, false;
    client_starts_then_peer_shuts_down_then_reads: Client, PeerShutsDownThenReads, false;
    client_starts_then_peer_reads_then_shuts_down: Client, PeerReadsThenShutsDown, false;
    peer_starts_then_peer_closes: Peer, PeerCloses, false;
    peer_starts_then_input_ends: Peer, InputEnds, false;
    peer_starts_then_input_ends_before_the_peer_reads: Peer, InputEndsBeforePeerReads, false;
    peer_starts_then_peer_shuts_down_then_reads: Peer, PeerShutsDownThenReads, false;
    peer_starts_then_peer_reads_then_shuts_down: Peer, PeerReadsThenShutsDown, false;
    client_starts_then_peer_closes_with_no_shutdown: Client, PeerCloses, true;
    client_starts_then_input_ends_with_no_shutdown: Client, InputEnds, true;
    client_starts_then_input_ends_before_the_peer_reads_with_no_shutdown:
        Client, InputEndsBeforePeerReads, true;
    client_starts_then_peer_shuts_down_then_reads_with_no_shutdown:
        Client, PeerShutsDownThenReads, true;
    client_starts_then_peer_reads_then_shuts_down_with_no_shutdown:
        Client, PeerReadsThenShutsDown, true;
    peer_starts_then_peer_closes_with_no_shutdown: Peer, PeerCloses, true;
    peer_starts_then_input_ends_with_no_shutdown: Peer, InputEnds, true;
    peer_starts_then_input_ends_before_the_peer_reads_with_no_shutdown:
        Peer, InputEndsBeforePeerReads, true;
    peer_starts_then_peer_shuts_down_then_reads_with_no_shutdown:
        Peer, PeerShutsDownThenReads, true;
    peer_starts_then_peer_reads_then_shuts_down_with_no_shutdown:
        Peer, PeerReadsThenShutsDown, true;
}
