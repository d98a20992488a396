//! `-x` and `--record`: the server writes down its datagrams.

use std::fs;

use super::{ask, ask_from};
use crate::harness::datagrams::{address, send, target};
use crate::harness::{mailbox, netkit, temporary_folder, udp_server};

#[test]
fn a_record_has_every_datagram_with_the_number_of_its_peer() {
    let folder = temporary_folder();
    let file = folder.path().join("record");
    let server = udp_server(["--record", file.to_str().unwrap()]).listen();
    let (one, other) = (mailbox(), mailbox());
    ask_from(&one, &server, "a\n");
    ask_from(&other, &server, "");
    ask_from(&one, &server, "b");
    server.wait_for_line(&format!("Writing down {} as #1.", address(&one)));
    server.wait_for_line(&format!("Writing down {} as #2.", address(&other)));
    server.stop();
    let record = fs::read_to_string(&file).unwrap();
    let mut lines = record.lines();
    let mut heads = Vec::new();
    while let Some(line) = lines.next() {
        let words: Vec<_> = line.split(' ').collect();
        if let [number, sign, _, _] = words[..]
            && number.starts_with('#')
        {
            heads.push(format!("{number} {sign} {}", lines.next().unwrap()));
        }
    }
    assert_eq!(
        heads,
        [
            "#1 < a",
            "#1 > Hello, a",
            "#2 < ",
            "#2 > Hello, !",
            "#1 < b",
            "#1 > Hello, b!"
        ]
    );
}

#[test]
fn a_dump_goes_to_a_file_or_to_standard_error() {
    let folder = temporary_folder();
    let file = folder.path().join("dump");
    let server = udp_server(["-x", file.to_str().unwrap()]).listen();
    ask(&server, "");
    server.stop();
    let dump = fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = dump.lines().collect();
    assert!(
        lines[0].starts_with("#1 < ") && lines[0].ends_with("Z 0"),
        "{dump}"
    );
    assert!(
        lines[1].starts_with("< ") && lines[1].ends_with("Z 0000000"),
        "{dump}"
    );
    assert!(
        lines[3].ends_with(" 4865 6c6c 6f2c 2021                     Hello, !"),
        "{dump}"
    );
    let server = udp_server(["-x"]).listen();
    ask(&server, "x");
    server.wait_for_line("< {*}Z 0000000 78 {*} x");
    server.wait_for_line("> {*}Z 0000000 4865 6c6c 6f2c 2078 21 {*} Hello, x!");
}

#[test]
fn refused_datagrams_are_not_recorded() {
    let folder = temporary_folder();
    let file = folder.path().join("record");
    let server = udp_server(["--record", file.to_str().unwrap(), "--deny", "127.0.0.1"]);
    let server = server.listen();
    send(&mailbox(), "x", target(&server));
    server.wait_for_line("netkit: no answer to a datagram {*}");
    server.stop();
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[test]
fn a_failed_record_is_reported_and_every_client_still_answered() {
    let server = udp_server(["--record", "/dev/full"]).code(2).listen();
    assert_eq!(ask(&server, "a"), b"Hello, a!");
    assert_eq!(ask(&server, "b"), b"Hello, b!");
    let log = server.stop().stderr;
    let said = "netkit: could not write /dev/full: no space left on device\n";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    assert!(
        log.ends_with("netkit: 4 datagrams in all could not be written down\n"),
        "{log}"
    );
    netkit(["udp-server", "-p", "0", "--record", "/nowhere/record"])
        .stderr("netkit: could not open /nowhere/record: no such file or directory\n")
        .code(2)
        .run();
}
