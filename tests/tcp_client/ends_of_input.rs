//! Who speaks first, and how the two come to their ends, with our sending side closed or left open.

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
    Plain,
    /// Our input ends, and the peer answers then.
    OfInput,
    /// Our input has ended before the peer reads anything.
    OfInputBeforeReading,
    /// The peer says everything and shuts down before it reads.
    ShutdownThenRead,
    /// The peer reads to our end, answers and shuts down.
    ReadThenShutdown,
}

fn session(first: First, end: End, no_shutdown: bool) {
    let peer = Peer::listen(move |mut connection| {
        if end == End::OfInputBeforeReading {
            connection.hold_for(Duration::from_millis(50));
        }
        if first == First::Peer {
            connection.send("greeting ");
        }
        if end == End::ShutdownThenRead {
            connection.send("answer");
            connection.shutdown();
            connection.expect("question");
            connection.expect_eof();
            return;
        }
        connection.expect("question");
        if end != End::Plain && no_shutdown {
            connection.expect_nothing_for(Duration::from_millis(50));
        } else if end != End::Plain {
            connection.expect_eof();
        }
        connection.send("answer");
        if end == End::ReadThenShutdown {
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
    let client = client.stdin_open().any_stdout();
    let mut client = client.start();
    client.send("question");
    if end != End::Plain {
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
    client_first_plain: Client, Plain, false;
    client_first_end_of_input: Client, OfInput, false;
    client_first_end_of_input_before_reading: Client, OfInputBeforeReading, false;
    client_first_shutdown_then_read: Client, ShutdownThenRead, false;
    client_first_read_then_shutdown: Client, ReadThenShutdown, false;
    peer_first_plain: Peer, Plain, false;
    peer_first_end_of_input: Peer, OfInput, false;
    peer_first_end_of_input_before_reading: Peer, OfInputBeforeReading, false;
    peer_first_shutdown_then_read: Peer, ShutdownThenRead, false;
    peer_first_read_then_shutdown: Peer, ReadThenShutdown, false;
    client_first_plain_without_shutdown: Client, Plain, true;
    client_first_end_of_input_without_shutdown: Client, OfInput, true;
    client_first_end_of_input_before_reading_without_shutdown: Client, OfInputBeforeReading, true;
    client_first_shutdown_then_read_without_shutdown: Client, ShutdownThenRead, true;
    client_first_read_then_shutdown_without_shutdown: Client, ReadThenShutdown, true;
    peer_first_plain_without_shutdown: Peer, Plain, true;
    peer_first_end_of_input_without_shutdown: Peer, OfInput, true;
    peer_first_end_of_input_before_reading_without_shutdown: Peer, OfInputBeforeReading, true;
    peer_first_shutdown_then_read_without_shutdown: Peer, ShutdownThenRead, true;
    peer_first_read_then_shutdown_without_shutdown: Peer, ReadThenShutdown, true;
}
