//! `-x` and `--record`: the client writes down the traffic.

use std::fs;

use crate::harness::{bytes_of_dump, matches, netkit, random_bytes, tcp_server, temporary_folder};

#[test]
fn a_dump_has_every_byte_with_its_direction_and_offset() {
    let sent = random_bytes(100_000);
    let server = tcp_server(["--service", "echo"]).listen();
    let folder = temporary_folder();
    let file = folder.path().join("dump");
    netkit([
        "tcp-client",
        "-x",
        file.to_str().unwrap(),
        &server.address(),
    ])
    .stdin(&sent)
    .stdout(&sent)
    .run();
    let dump = fs::read_to_string(file).unwrap();
    assert!(bytes_of_dump(&dump, "> ") == sent);
    assert!(bytes_of_dump(&dump, "< ") == sent);
    let last = dump.lines().rfind(|line| line.starts_with("> ")).unwrap();
    let pattern = "> {*}:{*}:{*}.{*}Z 00186{*} {*}";
    assert!(matches(pattern.as_bytes(), last.as_bytes()), "{last}");
}

#[test]
fn a_dump_without_a_file_goes_to_standard_error() {
    let server = tcp_server(["--service", "echo"]).listen();
    let address = server.address();
    let client = netkit(["tcp-client", "-x", &address])
        .stdin("a\n")
        .stdout("a\n");
    let log = client.any_stderr().run().stderr;
    assert_eq!(
        (bytes_of_dump(&log, "> "), bytes_of_dump(&log, "< ")),
        (b"a\n".into(), b"a\n".into())
    );
}

#[test]
fn a_record_has_both_directions_as_they_came() {
    let server = tcp_server(["--welcome", "<"]).listen();
    let folder = temporary_folder();
    let file = folder.path().join("record");
    let client = netkit([
        "tcp-client",
        "--record",
        file.to_str().unwrap(),
        &server.address(),
    ]);
    let mut client = client.stdin_open().any_stdout().start();
    client.receive("<");
    client.send("a\n");
    client.receive("Hello, a!\n");
    client.close_input();
    client.finish();
    assert_eq!(fs::read_to_string(file).unwrap(), "<a\nHello, a!\n");
}

#[test]
fn of_two_files_the_one_that_takes_nothing_is_named() {
    let server = tcp_server(["--service", "echo"]).listen();
    let folder = temporary_folder();
    let file = folder.path().join("file");
    for (other, full) in [("-x", "--record"), ("--record", "-x")] {
        netkit(["tcp-client", &server.address(), other])
            .arg(&file)
            .args([full, "/dev/full"])
            .stdin("a")
            .any_stdout()
            .stderr("netkit: could not write /dev/full: no space left on device\n")
            .code(2)
            .run();
    }
}

#[test]
fn a_dump_that_cannot_be_written_is_an_error() {
    let server = tcp_server([]).listen();
    netkit(["tcp-client", "-x", "/dev/full", &server.address()])
        .any_stdout()
        .stderr("netkit: could not write /dev/full: no space left on device\n")
        .code(2)
        .run();
    netkit(["tcp-client", "-x", "/no/such/file", &server.address()])
        .stderr("netkit: could not open /no/such/file: no such file or directory\n")
        .code(2)
        .run();
}
