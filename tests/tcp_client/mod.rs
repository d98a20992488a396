//! `netkit tcp-client`: sessions, checks of ports and pings.

mod check;
mod connecting;
mod ending;
mod ends_of_input;
mod fetching;
mod options;
mod orders;
mod pacing;
mod ping;
mod receiving;
mod retrying;
mod sending;
mod status;
mod tap;

use crate::harness::{Peer, netkit};

/// Enough bytes for splice(2), and no multiple of a buffer size.
const MUCH: usize = (8 << 20) + 12_345;

/// A peer that receives exactly `bytes` and the end of input.
fn receiver(bytes: impl AsRef<[u8]> + Send + 'static) -> Peer {
    Peer::listen(move |mut connection| {
        connection.expect(bytes);
        connection.expect_eof();
    })
}

#[test]
fn input_goes_to_the_peer_and_its_answer_to_output() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("ping");
        connection.expect_eof();
        connection.send("pong");
    });
    netkit(["tcp-client", peer.address()])
        .stdin("ping")
        .stdout("pong")
        .run();
}

#[test]
fn a_dialogue_goes_step_by_step() {
    let peer = Peer::listen(|mut connection| {
        connection.send("Welcome!");
        connection.expect("Michael");
        connection.send("Hello, Michael!");
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", peer.address()]).stdin_open().start();
    client.receive("Welcome!");
    client.send("Michael");
    client.receive("Hello, Michael!");
    client.close_input();
    client.finish();
}
