//! `-x` and `--record` into every kind of file, with every service; what they may hold up.

mod captures;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use crate::harness::datagrams::{expect, send, target};
use crate::harness::{
    Connection, FullPipe, Peer, Program, Server, Terminal, bytes_of_dump, mailbox, matches,
    named_pipe, netkit, random_bytes, tcp_server, temporary_folder, udp_server,
};
use crate::udp_server::ask;

/// The text of the pieces in a record of a server that serves several: direction and bytes.
fn pieces(record: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = record;
    while let Some((head, after)) = rest.split_once('\n') {
        assert!(matches(b"#{N} {*} {*}Z {N}", head.as_bytes()), "{head}");
        let words: Vec<_> = head.split(' ').collect();
        let (piece, after) = after.split_at(words[3].parse().unwrap());
        pieces.push(format!("{} {} {piece}", words[0], words[1]));
        rest = after.strip_prefix('\n').unwrap();
    }
    pieces
}

/// A client that says `a` to an echo.
fn client(server: &Server) -> Program {
    netkit(["tcp-client", &server.address()])
        .stdin("a")
        .stdout("a")
}

/// Waits until a client, the last of `count`, has connected. Its record then holds it up.
fn held(server: &Server, count: usize) {
    server.wait_for_lines("Accept new connection from {*}...", count);
}

#[test]
fn a_new_file_is_the_users_alone_and_an_old_one_is_emptied_unless_append() {
    let server = tcp_server(["--service", "echo"]).listen();
    let folder = temporary_folder();
    let file = folder.path().join("record");
    let run = |arguments: &[&str]| {
        client(&server).args(arguments).arg(&file).run();
        fs::read_to_string(&file).unwrap()
    };
    assert_eq!(run(&["--record"]), "aa");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(run(&["--append", "--record"]), "aaaa");
    assert_eq!(run(&["--record"]), "aa");
    assert_eq!(mode(), 0o644);
    assert_eq!(run(&["--append", "-x"]).lines().count(), 2);
}

#[test]
fn a_record_can_be_rotated_by_copying_and_truncating() {
    let folder = temporary_folder();
    let file = folder.path().join("record");
    let server = tcp_server(["--service", "echo", "--once", "--record"])
        .arg(&file)
        .listen();
    let mut connection = server.connect();
    let mut ask = |text: &str| {
        connection.send(text);
        connection.expect(text);
    };
    ask("before");
    ask("!");
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(0)
        .unwrap();
    ask("after");
    drop(connection);
    server.finish();
    // The answer `!` may have been written down after the cut.
    let record = fs::read_to_string(&file).unwrap();
    assert!(record.ends_with("afterafter"), "{record:?}");
    assert!(!record.contains('\0'), "{record:?}");
}

#[test]
fn one_file_for_both_is_refused_under_any_name() {
    let server = tcp_server(["--service", "echo"]).listen();
    let folder = temporary_folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "precious").unwrap();
    std::os::unix::fs::symlink("file", path("link")).unwrap();
    fs::hard_link(path("file"), path("other")).unwrap();
    for other in ["file", "link", "other"] {
        netkit(["tcp-client", "-x", "file", "--record", other])
            .arg(server.address())
            .current_dir(folder.path())
            .stderr(
                "netkit: could not write one file twice: -x and --record need different files; \
                 see 'netkit tcp-client -h'\n",
            )
            .code(2)
            .run();
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
    netkit([
        "tcp-client",
        "-x",
        "/dev/null",
        "--append",
        "--record",
        "file",
    ])
    .arg(server.address())
    .current_dir(folder.path())
    .run();
}

#[test]
fn a_file_that_reads_as_an_address_is_refused_with_the_way_out() {
    for (words, name) in [
        ("tcp-client -x proxy:3128 127.0.0.1:9", "proxy:3128"),
        ("tcp-client -x proxy:http 127.0.0.1:9", "proxy:http"),
        ("tcp-client -x :3128 127.0.0.1:9", ":3128"),
        ("tcp-client -x [::1]:3128 127.0.0.1 9", "[::1]:3128"),
        ("tcp-client 127.0.0.1:9 -x10.0.0.1:3128", "10.0.0.1:3128"),
        ("udp-client -x proxy:3128 127.0.0.1:9 a", "proxy:3128"),
        ("tcp-server -p 0 -x proxy:3128", "proxy:3128"),
        ("udp-server -p 0 -x proxy:3128", "proxy:3128"),
    ] {
        netkit(words.split(' '))
            .stderr(format!(
                "netkit: could not dump to {name}: it reads as HOST:PORT; a proxy is --proxy, \
                 and ./{name} is a file of that name; see 'netkit {{*}} -h'\n"
            ))
            .code(2)
            .run();
    }
    let server = tcp_server(["--service", "echo"]).listen();
    let folder = temporary_folder();
    client(&server)
        .args(["-x", "./proxy:3128"])
        .current_dir(folder.path())
        .run();
    assert!(folder.path().join("proxy:3128").exists());
}

#[test]
fn append_without_a_file_is_refused() {
    for words in [
        "tcp-client :9 --append",
        "tcp-client --append -x :9",
        "udp-client :9 --append",
        "tcp-server -p 0 --append",
        "udp-server -p 0 --append -x",
    ] {
        netkit(words.split(' '))
            .stderr("netkit: --append needs -x FILE or --record; see 'netkit {*} -h'\n")
            .code(2)
            .run();
    }
}

#[test]
fn a_named_pipe_without_a_reader_ends_at_the_deadline_and_by_a_signal() {
    // A client may reach its deadline before it is connected.
    let [echo, server] = [(); 2].map(|()| tcp_server(["--service", "echo"]).listen());
    let folder = temporary_folder();
    let pipe = folder.path().join("pipe");
    named_pipe(&pipe);
    for (option, number) in [("--record", 1), ("-x", 2)] {
        client(&echo)
            .args(["--deadline", "0.2", option])
            .arg(&pipe)
            .any_stdout()
            .stderr("netkit: gave up on {*} after 200ms (--deadline)\n")
            .code(4)
            .run();
        let client = client(&server).arg(option).arg(&pipe).any_stdout();
        let client = client.killed_by(Signal::INT).start();
        held(&server, number);
        client.signal(Signal::INT);
        client.finish();
    }
    let server = udp_server([]).listen();
    netkit(["udp-client", &server.address(), "-c", "1", "-w", "1"])
        .arg("--record")
        .arg(&pipe)
        .any_stdout()
        .stderr("netkit: could not write {*}/pipe: it was not taken in time\n")
        .code(4)
        .run();
}

#[test]
fn a_reader_of_a_named_pipe_that_comes_late_gets_everything() {
    let server = tcp_server(["--service", "echo"]).listen();
    let folder = temporary_folder();
    let pipe = folder.path().join("pipe");
    named_pipe(&pipe);
    let client = client(&server).arg("--record").arg(&pipe).start();
    held(&server, 1);
    assert_eq!(fs::read_to_string(&pipe).unwrap(), "aa");
    client.finish();
}

#[test]
fn a_stalled_pipe_ends_a_client_at_its_limits_and_gets_everything_if_it_goes_on() {
    // A client may reach its deadline before it is connected.
    let [echo, server] = [(); 2].map(|()| tcp_server(["--service", "echo"]).listen());
    let folder = temporary_folder();
    for (option, number) in [("--record", 1), ("-x", 2)] {
        let path = folder.path().join(number.to_string());
        let pipe = FullPipe::named(&path);
        for (limit, told) in [
            ("--deadline", "after 100ms (--deadline)"),
            ("--idle-timeout", "no data for 100ms (--idle-timeout)"),
        ] {
            client(&echo)
                .args([limit, "0.1", option])
                .arg(&path)
                .any_stdout()
                .stderr(format!("netkit: gave up on {{*}}{told}\n"))
                .code(4)
                .run();
        }
        let bytes = vec![b'x'; 300_000];
        let client = netkit(["tcp-client", &server.address(), option])
            .arg(&path)
            .stdin(&bytes)
            .stdout(&bytes)
            .start();
        held(&server, number);
        let reading = pipe.read();
        client.finish();
        let come = reading.finish();
        if option == "-x" {
            assert!(bytes_of_dump(&come, "> ") == bytes);
            assert!(bytes_of_dump(&come, "< ") == bytes);
        } else {
            assert_eq!(come.len(), 600_000);
        }
    }
}

#[test]
fn a_dump_to_standard_error_drops_nothing_and_waits_for_its_reader() {
    // The first client may reach its deadline before it is connected.
    let [echo, server] = [(); 2].map(|()| tcp_server(["--service", "echo"]).listen());
    let pipe = FullPipe::new();
    client(&echo)
        .args(["--deadline", "0.1", "-x"])
        .stderr_to(pipe.end())
        .any_stdout()
        .code(4)
        .run();
    let bytes = vec![b'x'; 300_000];
    let client = netkit(["tcp-client", &server.address(), "-x"])
        .stdin(&bytes)
        .stdout(&bytes)
        .stderr_to(pipe.end())
        .start();
    held(&server, 1);
    let reading = pipe.read();
    client.finish();
    let dump = reading.finish();
    assert!(bytes_of_dump(&dump, "> ").ends_with(&bytes));
    assert!(bytes_of_dump(&dump, "< ").ends_with(&bytes));
    assert!(
        dump.lines()
            .all(|line| line.len() <= 80 || line.starts_with("netkit: "))
    );
}

#[test]
fn a_stalled_pipe_holds_up_its_own_connections_but_no_accept_and_no_stop() {
    let folder = temporary_folder();
    let path = folder.path().join("pipe");
    let pipe = FullPipe::named(&path);
    let server = tcp_server(["--drain-timeout", "0.2", "--record"])
        .arg(&path)
        .code(4)
        .listen();
    for number in 1..=3 {
        let mut held = server.connect();
        held.expect("Welcome!");
        held.send("a\n");
        server.wait_for_lines("Accept new connection from {*}...", number);
    }
    server.signal(Signal::TERM);
    server.finish();
    drop(pipe);
}

#[test]
fn a_dump_to_a_standard_error_that_nobody_reads_stops_neither_accept_nor_stop() {
    for subcommand in ["tcp-server", "udp-server"] {
        let pipe = FullPipe::new();
        let mut server = netkit([subcommand, "-p", "0", "--print-port", "-x"])
            .args(["--drain-timeout", "0.2"])
            .stderr_to(pipe.end())
            .any_code()
            .start();
        let port = server.receive_line("{N}");
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        if subcommand == "tcp-server" {
            for _ in 0..20 {
                Connection::to(address).expect("Welcome!");
            }
        } else {
            let client = mailbox();
            for _ in 0..20 {
                send(&client, "a", address);
                expect(&client, "Hello, a!");
            }
        }
        server.signal(Signal::TERM);
        server.finish();
    }
}

#[test]
fn a_stalled_connection_keeps_its_limits() {
    let folder = temporary_folder();
    let path = folder.path().join("pipe");
    let pipe = FullPipe::named(&path);
    // Side by side, as each takes a second.
    let services = ["hello", "echo", "chargen", "broker", "discard"];
    let servers = services.map(|service| {
        let server = tcp_server(["--service", service, "--idle-timeout", "1", "--record"]);
        let server = server.arg(&path).listen();
        let mut held = server.connect();
        held.send("a\n");
        (server, held)
    });
    for (server, _held) in servers {
        let line = server.wait_for_line("Connection from {*} closed: {*}");
        assert!(line.ends_with(": no data for 1s (--idle-timeout)."));
    }
    drop(pipe);
}

#[test]
fn a_udp_server_answers_while_its_record_is_stalled_and_writes_it_later() {
    let folder = temporary_folder();
    let path = folder.path().join("pipe");
    let pipe = FullPipe::named(&path);
    let server = udp_server(["--record"]).arg(&path).listen();
    let client = mailbox();
    for _ in 0..10 {
        send(&client, "a", target(&server));
        expect(&client, "Hello, a!");
    }
    let reading = pipe.read();
    reading.wait_for("#1 > ");
    server.stop();
    let pieces = pieces(&reading.finish());
    assert_eq!(pieces, ["#1 < a", "#1 > Hello, a!"].repeat(10));
}

#[test]
fn what_a_stalled_record_of_a_udp_server_loses_is_counted() {
    let folder = temporary_folder();
    let path = folder.path().join("pipe");
    let pipe = FullPipe::named(&path);
    let server = udp_server(["--service", "discard", "--drain-timeout", "0", "--record"]);
    let server = server.arg(&path).code(2).listen();
    let client = mailbox();
    for number in 1..=30 {
        send(&client, vec![b'a'; 60_000], target(&server));
        server.wait_for_lines("Received from {*}.", number);
    }
    server.wait_for_line("{*}could not write {*}/pipe: it takes no more data");
    let log = server.stop().stderr;
    assert!(
        log.contains("datagrams in all could not be written down\n"),
        "{log}"
    );
    drop(pipe);
}

#[test]
fn a_udp_server_whose_record_lacks_something_does_not_end_well() {
    let folder = temporary_folder();
    let path = folder.path().join("pipe");
    let pipe = FullPipe::named(&path);
    for service in ["hello", "echo", "discard", "stdio"] {
        // The disk is full; a pipe is not read.
        for (record, code, cause) in [
            (Path::new("/dev/full"), 2, "no space left on device"),
            (&path, 4, "it was not taken in time"),
        ] {
            let server = udp_server(["--service", service, "--drain-timeout", "0", "--record"])
                .arg(record)
                .any_stdout()
                .code(code)
                .listen();
            send(&mailbox(), "a", target(&server));
            server.wait_for_line("Received from {*}.");
            let log = server.stop().stderr;
            let told = format!("netkit: could not write {}: {cause}\n", record.display());
            assert_eq!(log.matches(&told).count(), 1, "{log}");
        }
    }
    drop(pipe);
}

#[test]
fn a_ping_with_a_stalled_record_ends_by_its_deadline_and_by_a_signal() {
    let server = udp_server([]).listen();
    let folder = temporary_folder();
    let path = folder.path().join("pipe");
    let pipe = FullPipe::named(&path);
    let ping = |arguments: &[&str]| {
        netkit(["udp-client", &server.address(), "-i", "0.01"])
            .args(arguments)
            .arg("--record")
            .arg(&path)
            .any_stdout()
            .stderr("netkit: could not write {*}/pipe: it was not taken in time\n")
            .code(4)
    };
    ping(&["-w", "1"]).run();
    let running = ping(&[]).start();
    running.wait_for_stdout(200);
    running.signal(Signal::INT);
    running.finish();
    drop(pipe);
}

#[test]
fn a_terminal_shows_each_direction_in_its_colour() {
    let server = tcp_server(["--service", "echo"]).listen();
    for (name, value, has_colours) in [
        ("TERM", "xterm", true),
        ("TERM", "dumb", false),
        ("NO_COLOR", "1", false),
    ] {
        let mut terminal = Terminal::open();
        client(&server)
            .arg("-x")
            .env("TERM", "xterm")
            .env(name, value)
            .stderr_to(terminal.device())
            .run();
        for colour in ["32m> ", "36m< "] {
            let line = terminal.expect_line();
            let is_coloured = line.starts_with(&format!("\x1b[{colour}"));
            assert_eq!(is_coloured, has_colours, "{line:?}");
            assert_eq!(line.ends_with("\x1b[0m"), has_colours, "{line:?}");
        }
        terminal.finish();
    }
}

/// What `server` records of one client.
fn recorded(server: Program, file: &Path, talk: impl FnOnce(&Server)) -> String {
    let server = server.arg("--record").arg(file).listen();
    talk(&server);
    server.wait_for_line("Connection from {*} closed.");
    server.signal(Signal::TERM);
    server.finish();
    String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()
}

#[test]
fn every_service_is_recorded() {
    let target = Peer::listen(|mut connection| {
        connection.expect("a\n");
        connection.send("b\n");
    });
    let target = target.address();
    let folder = temporary_folder();
    let file = folder.path().join("record");
    let cases: [(&[&str], &str, &[&str]); 7] = [
        (
            &["--service", "hello"],
            "Welcome!Hello, a!\n",
            &["#1 > Welcome!", "#1 < a\n", "#1 > Hello, a!\n"],
        ),
        (&["--service", "echo"], "a\n", &["#1 < a\n", "#1 > a\n"]),
        (&["--service", "discard"], "", &["#1 < a\n"]),
        (&["--service", "broker"], "", &["#1 < a\n"]),
        (&["--service", "chat"], "", &["#1 < a\n"]),
        (
            &["--sh-exec", "read x; echo b"],
            "b\n",
            &["#1 < a\n", "#1 > b\n"],
        ),
        (&["--forward", target], "b\n", &["#1 < a\n", "#1 > b\n"]),
    ];
    for (arguments, answer, expected) in cases {
        let record = recorded(tcp_server(arguments.iter().copied()), &file, |server| {
            let client = netkit(["tcp-client", &server.address()]).stdin("a\n");
            client.stdout(answer).run();
        });
        assert_eq!(pieces(&record), expected, "{arguments:?}");
    }
    let record = recorded(tcp_server(["--service", "chargen"]), &file, |server| {
        server.connect().expect(" !\"#$%&'()*+,-./0123456789");
    });
    assert!(record.starts_with("#1 > "), "{record}");
}

#[test]
fn a_record_that_fails_resets_its_own_connection() {
    let target = tcp_server(["--service", "discard"]).listen();
    let target = target.address();
    for arguments in [
        &["--service", "hello"][..],
        &["--service", "echo"],
        &["--service", "discard"],
        &["--service", "chargen"],
        &["--service", "broker"],
        &["--sh-exec", "cat"],
        &["--forward", &target],
    ] {
        let server = tcp_server(arguments.iter().copied());
        let server = server.args(["--record", "/dev/full"]).listen();
        for number in 1..=2 {
            netkit(["tcp-client", &server.address()])
                .stdin("a\n")
                .any_stdout()
                .any_stderr()
                .code(1)
                .run();
            server.wait_for_lines(
                "netkit: Connection from {*} closed: could not write /dev/full: no space {*}",
                number,
            );
        }
    }
    let peer = Peer::listen(|mut connection| {
        connection.expect("a");
        connection.expect_reset();
    });
    netkit(["tcp-client", "--record", "/dev/full", peer.address()])
        .stdin("a")
        .stderr("netkit: could not write /dev/full: no space left on device\n")
        .code(2)
        .run();
}

/// The kernel sends SIGXFSZ to who writes beyond the limit.
#[test]
fn a_limit_of_file_sizes_is_a_full_disk_and_ends_no_process() {
    const LIMIT: &str = "-f 1";
    let folder = temporary_folder();
    let new_file = |name: &str| fs::File::create(folder.path().join(name)).unwrap();
    let record = folder.path().join("record");
    let peer = || {
        Peer::listen(|mut connection| {
            connection.send(random_bytes(100_000));
            connection.expect_reset();
        })
    };
    let receive = peer();
    netkit(["tcp-client", receive.address()])
        .stdin_open()
        .stdout_to(new_file("output"))
        .ulimit(LIMIT)
        .stderr("netkit: could not write standard output: file too large\n")
        .code(2)
        .run();
    let recorded = peer();
    netkit(["tcp-client", recorded.address(), "--record"])
        .arg(&record)
        .stdin_open()
        .any_stdout()
        .ulimit(LIMIT)
        .stderr("netkit: could not write {*}/record: file too large\n")
        .code(2)
        .run();
    let server = tcp_server(["--service", "discard", "--record"]);
    let server = server.arg(&record).ulimit(LIMIT).listen();
    let mut client = server.connect();
    client.send(random_bytes(10_000));
    client.expect_reset();
    server.wait_for_line("netkit: Connection from {*} closed: could not {*}: file too large.");
    server.stop();
    // Its log may be at the limit too.
    let server = tcp_server([]).stderr_to(new_file("log")).ulimit(LIMIT);
    let mut server = server.arg("--print-port").any_stdout().start();
    let port = server.receive_line("{N}").parse().unwrap();
    for _ in 0..50 {
        Connection::to(([127, 0, 0, 1], port).into()).expect("Welcome!");
    }
    server.signal(Signal::TERM);
    server.finish();
    let server = udp_server(["--record"]).arg(&record).ulimit(LIMIT).code(2);
    let server = server.listen();
    for _ in 0..5 {
        assert!(ask(&server, [b'a'; 1000]).ends_with(b"a!"));
    }
    server.stop();
}

#[test]
fn every_service_of_udp_is_recorded() {
    let folder = temporary_folder();
    let file = folder.path().join("record");
    for (arguments, expected) in [
        (
            &["--service", "hello"][..],
            &["#1 < a", "#1 > Hello, a!"][..],
        ),
        (&["--service", "echo"], &["#1 < a", "#1 > a"]),
        (&["--service", "discard"], &["#1 < a"]),
        (&["--service", "stdio"], &["#1 < a", "#1 > b"]),
        (&["--sh-exec", "echo b"], &["#1 < a", "#1 > b\n"]),
    ] {
        let server = udp_server(["--record", file.to_str().unwrap()])
            .args(arguments)
            .stdin("b")
            .any_stdout()
            .listen();
        let client = mailbox();
        send(&client, "a", target(&server));
        if let Some(answer) = expected.get(1) {
            expect(&client, &answer[5..]);
        }
        server.wait_for_line("Received from {*}.");
        server.stop();
        let record = fs::read_to_string(&file).unwrap();
        assert_eq!(pieces(&record), expected, "{arguments:?}");
    }
}

#[test]
fn a_dump_begins_on_a_line_of_its_own() {
    let peer = Peer::listen(|mut connection| {
        connection.send("a");
        connection.expect("b");
        connection.send("c");
    });
    let mut terminal = Terminal::open();
    let mut client = netkit(["tcp-client", "-x", peer.address()])
        .env("NO_COLOR", "1")
        .stdin_open()
        .stdout_to(terminal.device())
        .stderr_to(terminal.device())
        .start();
    let mut expect = |dump: &str| {
        let line = terminal.expect_line();
        assert!(matches(dump.as_bytes(), line.as_bytes()), "{line}");
    };
    expect("< {*} a");
    client.send("b");
    client.close_input();
    expect("a");
    expect("> {*} b");
    expect("< {*} c");
    client.finish();
    terminal.expect("c");
}

#[test]
fn a_server_of_one_connection_at_a_time_records_bytes_as_they_are() {
    let folder = temporary_folder();
    let file = folder.path().join("record");
    for arguments in [
        &["--service", "stdio", "-k"][..],
        &["--service", "stdio"],
        &["--service", "echo", "--once"],
    ] {
        let is_echo = arguments[1] == "echo";
        let server = tcp_server(arguments.iter().copied())
            .stdin("b\n")
            .any_stdout()
            .arg("--record")
            .arg(&file)
            .listen();
        netkit(["tcp-client", &server.address(), "--record"])
            .arg(folder.path().join("clients"))
            .stdin("a\n")
            .stdout(if is_echo { "a\n" } else { "b\n" })
            .run();
        server.wait_for_line("Connection from {*} closed.");
        server.signal(Signal::TERM);
        let _ = server.finish();
        let record = fs::read_to_string(&file).unwrap();
        let mut lines: Vec<_> = record.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, if is_echo { ["a", "a"] } else { ["a", "b"] });
    }
}

#[test]
fn udp_client_opens_its_record_after_all_checks() {
    let folder = temporary_folder();
    let file = folder.path().join("record");
    fs::write(&file, "precious").unwrap();
    for (words, code) in [(":9 -c 1 -s 65508", 2), (":9 a --relay", 2)] {
        netkit(["udp-client"])
            .args(words.split(' '))
            .arg("--record")
            .arg(&file)
            .any_stderr()
            .code(code)
            .run();
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious", "{words}");
    }
}
