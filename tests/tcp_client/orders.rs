//! Every order in which the two inputs can end.

use std::net::TcpListener;

use super::receiver;
use crate::harness::{Peer, event, netkit, random_bytes};

#[test]
fn neither_side_sends_anything() {
    netkit(["tcp-client", receiver("").address()]).run();
}

#[test]
fn peer_ends_before_input_delivers_anything() {
    let (ended, go_on) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.send("answer");
        connection.shutdown();
        ended.happen();
        connection.expect("question");
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", "--half-close-wait=1h", peer.address()])
        .stdin_open()
        .start();
    client.receive("answer");
    go_on.wait();
    client.send("question");
    client.close_input();
    client.finish();
}

#[test]
fn peer_ends_and_then_input_without_another_byte() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("question");
        connection.send("answer");
        connection.shutdown();
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", "--half-close-wait=forever", peer.address()])
        .stdin_open()
        .start();
    client.send("question");
    client.receive("answer");
    client.close_input();
    client.finish();
}

#[test]
fn input_has_ended_before_the_connection_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer::of_listener(listener, |mut connection| {
        connection.expect_eof();
        connection.send("late");
    });
    netkit(["tcp-client", peer.address()])
        .stdin("")
        .stdout("late")
        .run();
}

#[test]
fn input_ends_with_its_last_byte_and_no_answer_comes() {
    let peer = receiver("last words");
    netkit(["tcp-client", peer.address()])
        .stdin("last words")
        .run();
}

#[test]
fn peer_answers_and_ends_between_the_last_byte_and_the_end_of_input() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("question");
        connection.send("answer");
        connection.shutdown();
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", peer.address()]).stdin_open().start();
    client.send("question");
    client.receive("answer");
    client.close_input();
    client.finish();
}

#[test]
fn both_send_everything_and_end_at_once() {
    let peer = Peer::listen(|mut connection| {
        connection.send(random_bytes(300_000));
        connection.shutdown();
        connection.expect(random_bytes(300_000));
        connection.expect_eof();
    });
    netkit(["tcp-client", peer.address()])
        .stdin(random_bytes(300_000))
        .stdout(random_bytes(300_000))
        .run();
}

#[test]
fn both_send_more_than_the_connection_holds_before_the_peer_reads() {
    let peer = Peer::listen(|mut connection| {
        connection.send(vec![b'x'; 10_000_000]);
        connection.shutdown();
        connection.expect(vec![b'y'; 10_000_000]);
        connection.expect_eof();
    });
    netkit(["tcp-client", peer.address()])
        .stdin(vec![b'y'; 10_000_000])
        .stdout(vec![b'x'; 10_000_000])
        .run();
}

#[test]
fn peer_ends_while_input_goes_on_without_a_pause() {
    let peer = Peer::listen(|mut connection| {
        connection.shutdown();
        connection.expect(vec![b'y'; 10_000_000]);
        connection.expect_eof();
    });
    netkit(["tcp-client", peer.address()])
        .stdin(vec![b'y'; 10_000_000])
        .run();
}

#[test]
fn input_ends_while_the_peer_goes_on_without_a_pause() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("question");
        connection.expect_eof();
        connection.send(random_bytes(10_000_000));
    });
    netkit(["tcp-client", peer.address()])
        .stdin("question")
        .stdout(random_bytes(10_000_000))
        .run();
}
