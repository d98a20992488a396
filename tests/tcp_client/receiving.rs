//! How the client prints what the peer sends.

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};

use super::MUCH;
use crate::harness::{
    ESCAPED, Peer, Terminal, event, netkit, random_bytes, read_all, temporary_folder,
};

#[test]
fn a_terminal_shows_control_characters_escaped() {
    let peer = Peer::listen(|mut connection| connection.send("a\x1b[2J\u{9b}1mb\x07\r\n\tü\n"));
    let mut terminal = Terminal::open();
    netkit(["tcp-client", peer.address()])
        .stdout_to(terminal.device())
        .stderr(ESCAPED)
        .run();
    terminal.expect("a\\x1b[2J\\xc2\\x9b1mb\\x07\r\n\tü\n");
    terminal.finish();
}

#[test]
fn a_terminal_is_not_turned_around_by_a_peer() {
    let peer =
        Peer::listen(|mut connection| connection.send("a\u{202e}b\u{2066}c\u{2028}d\u{200b}"));
    let mut terminal = Terminal::open();
    netkit(["tcp-client", "-q", peer.address()])
        .stdout_to(terminal.device())
        .run();
    terminal.expect("a\\xe2\\x80\\xaeb\\xe2\\x81\\xa6c\\xe2\\x80\\xa8d\u{200b}");
    terminal.finish();
}

#[test]
fn a_character_in_two_segments_is_shown_whole() {
    let (shown, go_on) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.send(b"a\xe6\xbc");
        go_on.wait();
        connection.send(b"\xa2b\xe6");
    });
    let mut terminal = Terminal::open();
    let client = netkit(["tcp-client", peer.address()])
        .stdout_to(terminal.device())
        .stderr(ESCAPED)
        .start();
    terminal.expect("a");
    shown.happen();
    terminal.expect("漢b\\xe6");
    client.finish();
    terminal.finish();
}

#[test]
fn raw_writes_every_byte_to_a_terminal() {
    let peer = Peer::listen(|mut connection| connection.send("a\x1b[2Jb"));
    let mut terminal = Terminal::open();
    netkit(["tcp-client", "--raw", peer.address()])
        .stdout_to(terminal.device())
        .run();
    terminal.expect("a\x1b[2Jb");
    terminal.finish();
}

#[test]
fn a_pipe_gets_every_byte_unchanged() {
    let all: Vec<u8> = (0..=255).collect();
    let sent = all.clone();
    let peer = Peer::listen(move |mut connection| connection.send(sent));
    netkit(["tcp-client", peer.address()]).stdout(all).run();
}

#[test]
fn a_person_at_a_terminal_has_a_dialogue() {
    let peer = Peer::listen(|mut connection| {
        connection.send("Welcome!");
        connection.expect("Michael\n");
        connection.send("Hello, Michael!\n");
        connection.expect_eof();
    });
    let mut terminal = Terminal::open();
    let client = netkit(["tcp-client", peer.address()])
        .stdin_from(terminal.device())
        .stdout_to(terminal.device())
        .start();
    terminal.expect("Welcome!");
    terminal.type_in("Michael\n");
    terminal.expect("Hello, Michael!\n");
    terminal.type_in(Terminal::END);
    client.finish();
    terminal.finish();
}

#[test]
fn output_is_appended_to_a_file() {
    let folder = temporary_folder();
    let path = folder.path().join("output");
    let mut file = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(&path)
        .unwrap();
    file.write_all(b"before;").unwrap();
    let peer = Peer::listen(|mut connection| connection.send(random_bytes(1_000_000)));
    netkit(["tcp-client", peer.address()])
        .stdout_to(file.try_clone().unwrap())
        .run();
    file.rewind().unwrap();
    let expected = [b"before;".as_slice(), &random_bytes(1_000_000)].concat();
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn a_slow_reader_gets_everything() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (full, go_on) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.send_until_full();
        full.happen();
        connection.send("end");
    });
    let client = netkit(["tcp-client", peer.address()])
        .stdout_to(writer)
        .start();
    go_on.wait();
    let everything = read_all(reader);
    assert!(everything.ends_with(b"xend"));
    client.finish();
}

#[test]
fn megabytes_go_to_a_new_file_and_to_the_end_of_an_old_one() {
    for append in [false, true] {
        let bytes = random_bytes(MUCH);
        let folder = temporary_folder();
        let path = folder.path().join("output");
        let begin: &[u8] = if append { b"what was there" } else { b"" };
        fs::write(&path, begin).unwrap();
        let sent = bytes.clone();
        let peer = Peer::listen(move |mut connection| {
            connection.expect_eof();
            connection.send(sent);
        });
        let file = File::options().append(append).write(true).open(&path);
        netkit(["tcp-client", peer.address()])
            .stdout_to(file.unwrap())
            .run();
        peer.finish();
        assert!(fs::read(&path).unwrap() == [begin, &bytes[..]].concat());
    }
}
