//! What the client sends to the peer.

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{MUCH, receiver};
use crate::harness::{Peer, event, netkit, random_bytes, temporary_folder};

#[test]
fn send_replaces_input() {
    let peer = receiver(b"a\r\n\t\0\\\xffb -c");
    netkit(["tcp-client", "--send", r"a\r\n\t\0\\\xFF"])
        .arg("--send=b")
        .arg("--send")
        .arg(" -c")
        .arg(peer.address())
        .stdin("not this")
        .run();
}

#[test]
fn crlf_ends_every_line() {
    let peer = receiver("one\r\ntwo\r\n\r\nfour\r\rfive\r\n\rsix");
    netkit(["tcp-client", "-C", peer.address()])
        .stdin("one\ntwo\r\n\nfour\r\rfive\n\rsix")
        .run();
}

#[test]
fn crlf_knows_a_line_end_that_is_split_over_two_reads() {
    let (arrived, next) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.expect("one\r");
        arrived.happen();
        connection.expect("\ntwo");
        arrived.happen();
        connection.expect("\r\n");
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", "--crlf", peer.address()])
        .stdin_open()
        .start();
    for piece in ["one\r", "\ntwo"] {
        client.send(piece);
        next.wait();
    }
    client.send("\n");
    client.close_input();
    client.finish();
}

#[test]
fn crlf_applies_to_send_too() {
    let peer = receiver("a\r\nb\r\n");
    netkit(["tcp-client", "-C", "--send", r"a\r\nb\n", peer.address()]).run();
}

#[test]
fn send_only_prints_nothing_and_does_not_wait() {
    let (left, go_on) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.send("answer");
        connection.expect("data");
        connection.expect_eof();
        go_on.wait();
    });
    netkit(["tcp-client", "--send-only", peer.address()])
        .stdin("data")
        .run();
    left.happen();
}

#[test]
fn recv_only_sends_neither_input_nor_its_end() {
    let peer = Peer::listen(|mut connection| {
        connection.expect_nothing_for(Duration::from_millis(200));
        connection.send("data");
    });
    netkit(["tcp-client", "--recv-only", peer.address()])
        .stdin("not this")
        .stdout("data")
        .run();
}

#[test]
fn input_from_a_file_is_sent_whole() {
    let folder = temporary_folder();
    let path = folder.path().join("input");
    fs::write(&path, random_bytes(1_000_000)).unwrap();
    let peer = receiver(random_bytes(1_000_000));
    netkit(["tcp-client", peer.address()])
        .stdin_from(File::open(&path).unwrap())
        .run();
}

#[test]
fn input_from_a_socket_is_sent_whole() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let (received, go_on) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.expect("one");
        received.happen();
        connection.expect("two");
        connection.expect_eof();
    });
    let client = netkit(["tcp-client", peer.address()])
        .stdin_from(std::os::fd::OwnedFd::from(theirs))
        .start();
    ours.write_all(b"one").unwrap();
    go_on.wait();
    ours.write_all(b"two").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    client.finish();
}

#[test]
fn input_that_is_only_open_for_writing_counts_as_ended() {
    let folder = temporary_folder();
    let write_only = File::create(folder.path().join("input")).unwrap();
    // nohup(1) puts it in the place of a terminal.
    let write_only_null = File::options().write(true).open("/dev/null").unwrap();
    for input in [write_only, write_only_null] {
        let peer = Peer::listen(|mut connection| {
            connection.expect_eof();
            connection.send("answer");
        });
        netkit(["tcp-client", peer.address()])
            .stdin_from(input)
            .stdout("answer")
            .stderr(
                "netkit: could not read standard input: bad file descriptor; it counts as ended\n",
            )
            .run();
    }
}

#[test]
fn a_failed_read_is_an_error_after_the_peers_data_has_been_written() {
    let peer = Peer::listen(|mut connection| {
        // The peer must not take what it has got for complete.
        connection.expect_nothing_for(Duration::from_millis(300));
        connection.send("answer");
    });
    netkit(["tcp-client", peer.address()])
        .stdin_from(File::open("/").unwrap())
        .stdout("answer")
        .stderr("netkit: could not read standard input: is a directory\n")
        .code(2)
        .run();
}

#[test]
fn a_failed_read_resets_a_peer_that_waits_for_more() {
    let peer = Peer::listen(|mut connection| {
        connection.send("greeting");
        connection.expect_reset();
    });
    netkit(["tcp-client", peer.address()])
        .stdin_from(File::open("/").unwrap())
        .stdout("greeting")
        .stderr("netkit: could not read standard input: is a directory\n")
        .code(2)
        .run();
}

#[test]
fn a_file_is_sent_from_its_offset_to_its_end() {
    let bytes = random_bytes(MUCH);
    let folder = temporary_folder();
    let path = folder.path().join("input");
    fs::write(&path, [b"skipped", &bytes[..]].concat()).unwrap();
    let mut file = File::open(&path).unwrap();
    file.seek(std::io::SeekFrom::Start(7)).unwrap();
    let peer = receiver(bytes);
    netkit(["tcp-client", peer.address()])
        .stdin_from(file)
        .run();
    peer.finish();
}
