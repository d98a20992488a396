//! `--service stdio`: one connection at a time has standard input and output.

use std::fs;
use std::io::Read as _;
use std::time::Duration;

use crate::harness::{
    Connection, DEADLINE, Terminal, full_pipe, netkit, peer, program, random_bytes, spawn,
    tcp_server, temporary_folder,
};

#[test]
fn one_connection_is_joined_to_input_and_output() {
    let server = tcp_server(["--service", "stdio"]).stdin("from the server");
    let server = server.stdout("from the client").listen();
    let mut client = server.connect();
    client.send("from the client");
    client.shutdown();
    client.expect("from the server");
    client.expect_eof();
    server.finish();
}

#[test]
fn the_first_connection_closes_the_port() {
    let server = tcp_server(["--service", "stdio"])
        .stdin_open()
        .any_stdout()
        .listen();
    let mut first = server.connect();
    first.send("x");
    server.wait_for_stdout(1);
    let address = server.address();
    netkit(["tcp-client", &address])
        .stderr(format!(
            "netkit: could not connect to {address}: connection refused\n"
        ))
        .code(1)
        .run();
    first.shutdown();
    first.expect_eof();
    server.finish();
}

#[test]
fn a_file_passes_whole_to_standard_output() {
    let folder = temporary_folder();
    let sent = random_bytes(3_000_000);
    let file = folder.path().join("file");
    fs::write(&file, &sent).unwrap();
    let server = tcp_server(["--service", "stdio"])
        .stdin("")
        .stdout(&sent)
        .listen();
    netkit(["tcp-client", &server.address()])
        .stdin_from(fs::File::open(&file).unwrap())
        .run();
    server.finish();
}

#[test]
fn a_server_and_a_client_have_a_dialogue() {
    let mut server = tcp_server(["--service", "stdio"])
        .stdin_open()
        .any_stdout()
        .listen();
    let client = netkit(["tcp-client", &server.address()])
        .stdin_open()
        .any_stdout();
    let mut client = client.start();
    for turn in 0..5 {
        client.send(format!("question {turn}\n"));
        server.receive(format!("question {turn}\n"));
        server.send(format!("answer {turn}\n"));
        client.receive(format!("answer {turn}\n"));
    }
    client.close_input();
    server.close_input();
    client.finish();
    server.finish();
}

#[test]
fn a_browser_gets_one_response() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n";
    let server = tcp_server(["--service", "stdio"])
        .stdin(response)
        .any_stdout()
        .listen();
    let url = format!("http://{}/", server.address());
    if let Some(curl) = peer("curl", ["-s", &url]) {
        curl.stdout("hi\n").code(0).run();
        let request = String::from_utf8(server.finish().stdout).unwrap();
        assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    }
}

#[test]
fn a_server_without_input_keeps_its_sending_side_open() {
    let server = tcp_server(["--service", "stdio"])
        .stdout("row 1 row 2")
        .listen();
    let mut client = server.connect();
    client.send("row 1 ");
    client.expect_nothing_for(Duration::from_millis(300));
    client.send("row 2");
    client.shutdown();
    client.expect_eof();
    server.finish();
}

/// What a server says about an input without a byte that cannot be read.
fn counts_as_ended(cause: &str) -> String {
    format!("netkit: could not read standard input: {cause}; it counts as ended")
}

#[test]
fn a_server_whose_input_cannot_be_read_receives() {
    let write_only = fs::File::options().write(true).open("/dev/null").unwrap();
    let mut server = tcp_server(["--service", "stdio", "-k"])
        .stdin_from(write_only)
        .any_stdout()
        .listen();
    for turn in 1..=2 {
        netkit(["tcp-client", &server.address()])
            .stdin(format!("{turn}\n"))
            .run();
        server.receive(format!("{turn}\n"));
        server.wait_for_lines("Connection from {*} closed.", turn);
    }
    let told = counts_as_ended("bad file descriptor");
    assert_eq!(server.wait_for_lines(&told, 1).len(), 1);
    server.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_in_the_background_of_a_terminal_receives() {
    let mut terminal = Terminal::open();
    // A read in a background process group fails with EIO where SIGTTIN is ignored.
    let background = r#"set -m; trap "" TTIN; exec 3<&0; "$0" "$@" <&3 & wait $!"#;
    let session = format!(r#"exec setsid -w -c bash -c '{background}' "$0" "$@""#);
    let server = tcp_server(["--service", "stdio", "--idle-timeout", "10"])
        .stdin_from(terminal.device())
        .through(&session)
        .stdout("x")
        .listen();
    let mut client = server.connect();
    client.send("x");
    // It is for the program in the foreground.
    terminal.type_in("typed\n");
    server.wait_for_line(&counts_as_ended("input/output error"));
    client.shutdown();
    client.expect_eof();
    server.finish();
}

#[test]
fn a_failed_read_ends_the_server_after_the_clients_data_has_been_written() {
    let server = tcp_server(["--service", "stdio"])
        .stdin_from(fs::File::open("/").unwrap())
        .stdout("all of it")
        .code(2)
        .listen();
    let mut client = server.connect();
    client.send("all of it");
    client.shutdown();
    client.expect_reset();
    server.wait_for_line("netkit: could not read standard input: is a directory");
    server.finish();
}

#[test]
fn the_end_of_an_input_that_has_delivered_something_is_passed_on() {
    let server = tcp_server(["--service", "stdio"]).stdin("all").listen();
    let mut client = server.connect();
    client.expect("all");
    client.expect_eof();
    client.shutdown();
    server.finish();
}

#[test]
fn idle_timeout_ends_a_receiver_well() {
    let server = tcp_server(["--service", "stdio", "--idle-timeout", "2"])
        .stdout("x")
        .listen();
    let mut client = server.connect();
    client.send("x");
    client.expect_eof();
    server.wait_for_line("Connection from {*} closed.");
    server.finish();
}

#[test]
fn idle_timeout_of_a_receiver_that_got_nothing_is_an_error() {
    let server = tcp_server(["--service", "stdio", "--idle-timeout", "0.3"])
        .code(4)
        .listen();
    let mut client = server.connect();
    client.drain();
    server.finish();
}

#[test]
#[ignore = "takes ten seconds"]
fn a_receiver_tells_what_a_silent_sender_needs() {
    // This peer is not silent: nobody reads what it has sent. The pipe has room for the first of it.
    let (mut reader, writer) = full_pipe();
    reader.read_exact(&mut [0; 4096]).unwrap();
    let unread = tcp_server(["--service", "stdio"]).stdout_to(writer);
    let unread = unread.listen();
    let mut waiting = unread.connect();
    waiting.send_until_full();
    unread.wait_for_line("Accept new connection from {*}...");
    let server = tcp_server(["--service", "stdio"]).stdout("x").listen();
    let mut client = server.connect();
    client.send("x");
    server.wait_for_line(
        "netkit: the peer is silent and has not ended; some senders need an option to end \
         (nc -N, nc -q 0), and --idle-timeout TIME ends this side",
    );
    client.shutdown();
    server.finish();
    assert!(!unread.log().contains("silent"), "{}", unread.log());
    waiting.shutdown();
    drop(spawn(move || {
        std::io::copy(&mut reader, &mut std::io::sink())
    }));
    unread.finish();
}

#[test]
fn keep_open_serves_one_connection_after_another() {
    let server = tcp_server(["--service", "stdio", "-k"])
        .stdin("")
        .any_stdout();
    let mut server = server.listen();
    for turn in 1..=3 {
        let client = netkit(["tcp-client", &server.address()]).stdin(format!("{turn}\n"));
        client.run();
        server.receive(format!("{turn}\n"));
        server.wait_for_lines("Connection from {*} closed.", turn);
    }
    server.stop();
}

#[test]
fn with_keep_open_what_input_says_after_a_client_has_left_is_for_the_next() {
    let mut server = tcp_server(["--service", "stdio", "-k"])
        .stdin_open()
        .any_stdout()
        .listen();
    for turn in 0..5 {
        let mut first = server.connect();
        server.send("for the first\n");
        first.expect("for the first\n");
        first.send("bye\n");
        server.receive("bye\n");
        let left = first.stream().local_addr().unwrap();
        drop(first);
        #[cfg(target_os = "linux")]
        wait_until_left(left.port());
        // The server still waits for more input.
        let (one, two) = (format!("for the next {turn}\n"), random_bytes(10_000));
        server.send(&one);
        server.send(&two);
        let mut next = server.connect();
        next.expect(&one);
        next.expect(&two);
        drop(next);
        let ended = 2 * (turn + 1);
        server.wait_for_lines("Connection from {*} closed.", ended);
    }
    server.stop();
}

/// Waits until no connection with `port` is established: a busy kernel passes an end on later.
#[cfg(target_os = "linux")]
fn wait_until_left(port: u16) {
    let end = std::time::Instant::now() + DEADLINE;
    // proc(5): remote address and state; 01 is ESTABLISHED.
    let established = format!(":{port:04X} 01 ");
    let table = || fs::read_to_string("/proc/net/tcp").unwrap();
    while table().contains(&established) {
        assert!(std::time::Instant::now() < end, "the end should have come");
    }
}

#[test]
fn with_keep_open_a_client_that_has_half_closed_gets_its_answer() {
    let mut server = tcp_server(["--service", "stdio", "-k"])
        .stdin_open()
        .any_stdout()
        .listen();
    let mut first = server.connect();
    first.send("question");
    first.shutdown();
    server.receive("question");
    server.send("answer");
    first.expect("answer");
    // Half a second later.
    first.expect_eof();
    let mut second = server.connect();
    server.send("not the answer again");
    second.expect("not the answer again");
    drop(second);
    server.stop();
}

#[test]
fn the_second_connection_waits_for_the_first_at_any_address() {
    let both = ["-b", "127.0.0.1", "-b", "127.0.0.2"];
    let mut server = tcp_server(["--service", "stdio", "-k"].into_iter().chain(both))
        .stdin_open()
        .any_stdout()
        .listen();
    let addresses = server.addresses(2);
    let mut first = Connection::to(addresses[1]);
    first.send("first ");
    server.receive("first ");
    let mut second = Connection::to(addresses[0]);
    second.send("second");
    second.shutdown();
    first.send("still first ");
    first.shutdown();
    server.receive("still first second");
    server.close_input();
    second.expect_eof();
    server.stop();
}

#[test]
fn a_reset_by_the_client_ends_the_server_with_an_error() {
    let server = tcp_server(["--service", "stdio"])
        .stdin_open()
        .stdout("x")
        .code(1)
        .listen();
    let mut client = server.connect();
    client.send("x");
    server.wait_for_stdout(1);
    client.reset();
    server.wait_for_line("netkit: could not finish with {*}: connection reset by peer");
    server.finish();
}

#[test]
fn a_reset_by_the_client_does_not_end_keep_open() {
    let server = tcp_server(["--service", "stdio", "-k"])
        .stdin_open()
        .any_stdout();
    let mut server = server.listen();
    let mut client = server.connect();
    client.send("x");
    server.receive("x");
    client.reset();
    let mut client = server.connect();
    client.send("y");
    server.receive("y");
    drop(client);
    server.wait_for_lines("Connection from {*} closed{*}.", 2);
    server.stop();
}

#[test]
fn the_server_exits_with_141_when_its_reader_leaves() {
    let script = "set -o pipefail; \"$0\" \"$@\" | head -c 1";
    let server = tcp_server(["--service", "stdio", "-k"]).stdin_open();
    let server = server.through(script).stdout("x").code(141).listen();
    let mut client = server.connect();
    client.send("xyz");
    client.drain();
    server.finish();
}

#[test]
fn a_full_disk_ends_the_server_with_an_error() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let server = tcp_server(["--service", "stdio", "-k"])
        .stdin_open()
        .stdout_to(full)
        .code(2);
    let server = server.listen();
    let mut client = server.connect();
    client.send("x");
    client.drain();
    server.wait_for_line("netkit: could not write standard output: no space left on device");
    server.finish();
}

#[test]
fn a_tar_stream_passes_whole() {
    let folder = temporary_folder();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    for size in [0, 1, 4096, 1_000_000] {
        fs::write(from.join(size.to_string()), random_bytes(size)).unwrap();
    }
    let server = tcp_server(["--service", "stdio"])
        .stdin("")
        .through(&format!("\"$0\" \"$@\" | tar x -C '{}'", to.display()))
        .listen();
    netkit(["tcp-client", &server.address()])
        .through(&format!("tar c -C '{}' . | \"$0\" \"$@\"", from.display()))
        .run();
    server.finish();
    program("diff", ["-r".as_ref(), from.as_os_str(), to.as_os_str()]).run();
}
