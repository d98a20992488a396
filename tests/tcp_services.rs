//! Services of the TCP server that join a connection to something else: standard input and output,
//! a program, another server, other connections.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use crate::harness::{
    Connection, Peer, Server, netkit, peer, program, random_bytes, spawn, tcp_server,
    temporary_folder,
};

mod stdio {
    use super::*;

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
    fn the_port_is_given_up_with_the_first_connection() {
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
    fn a_file_and_its_answer_pass_whole() {
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
    fn two_terminals_have_a_dialogue() {
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
    fn keep_open_takes_one_connection_after_the_other() {
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
    fn the_second_connection_waits_for_the_first() {
        let mut server = tcp_server(["--service", "stdio", "-k"])
            .stdin_open()
            .any_stdout()
            .listen();
        let mut first = server.connect();
        first.send("first ");
        server.receive("first ");
        let mut second = server.connect();
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
    fn a_client_that_breaks_off_ends_it_with_an_error() {
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
    fn a_client_that_breaks_off_does_not_end_keep_open() {
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
    fn it_ends_with_141_when_its_reader_goes_away() {
        let script = "set -o pipefail; \"$0\" \"$@\" | head -c 1";
        let server = tcp_server(["--service", "stdio", "-k"]).stdin_open();
        let server = server.through(script).stdout("x").code(141).listen();
        let mut client = server.connect();
        client.send("xyz");
        client.drain();
        server.finish();
    }

    #[test]
    fn a_full_disk_ends_it_with_an_error() {
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
}

mod exec {
    use super::*;

    /// What the processes of a server are.
    fn children(server: &Server) -> Vec<String> {
        let pid = server.pid();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let mut children = fs::read_to_string(path).unwrap_or_default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let path = task.unwrap().path().join("children");
            children += &fs::read_to_string(path).unwrap_or_default();
        }
        children.split_whitespace().map(str::to_owned).collect()
    }

    fn descriptors(server: &Server) -> usize {
        fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    }

    #[test]
    fn the_end_of_input_ends_only_the_programs_input() {
        let server = tcp_server(["--sh-exec", "wc -c"]).listen();
        for size in [0, 4098, 3_000_000] {
            netkit(["tcp-client", &server.address()])
                .stdin(vec![b'x'; size])
                .stdout(format!("{size}\n"))
                .run();
        }
    }

    #[test]
    #[ignore = "a hundred megabytes"]
    fn a_hundred_megabytes_are_counted() {
        let server = tcp_server(["--sh-exec", "wc -c"]).listen();
        netkit(["tcp-client", &server.address()])
            .stdin(vec![b'x'; 100_000_000])
            .stdout("100000000\n")
            .run();
    }

    #[test]
    fn a_program_has_its_arguments() {
        let server = tcp_server(["--exec", "/bin/echo", "-n", "-p", "two words"]).listen();
        netkit(["tcp-client", &server.address()])
            .stdout("-p two words")
            .run();
    }

    #[test]
    fn a_program_knows_its_connection() {
        let variables = "$NETKIT_REMOTE_ADDR $NETKIT_REMOTE_PORT $NETKIT_LOCAL_ADDR \
                         $NETKIT_LOCAL_PORT $NETKIT_PROTO $NCAT_REMOTE_ADDR $NCAT_REMOTE_PORT \
                         $NCAT_LOCAL_ADDR $NCAT_LOCAL_PORT $NCAT_PROTO";
        let server = tcp_server(["--sh-exec", &format!("echo {variables}")]).listen();
        let mut client = server.connect();
        let port = client.local().rsplit_once(':').unwrap().1.to_owned();
        let facts = format!("127.0.0.1 {port} 127.0.0.1 {} TCP", server.port());
        client.expect(format!("{facts} {facts}\n"));
        client.expect_eof();
    }

    #[test]
    fn a_program_may_stop_reading_and_still_answer() {
        let server = tcp_server(["--sh-exec", "head -n 1; exec 0<&-; echo done"]).listen();
        let mut input = b"one\n".to_vec();
        input.extend(vec![b'x'; 1 << 20]);
        netkit(["tcp-client", &server.address()])
            .stdin(input)
            .stdout("one\ndone\n")
            .run();
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for (program, cause) in [
            ("/no/such/program", "no such file or directory"),
            ("no-such-program", "no such file or directory"),
            ("/etc/passwd", "permission denied"),
        ] {
            netkit(["tcp-server", "-p", "0", "-e", program])
                .stderr(format!("netkit: could not run {program}: {cause}\n"))
                .code(2)
                .run();
        }
    }

    /// A server that runs `./program`, which is not there any more.
    fn server_without_its_program(options: &[&str], code: i32) -> Server {
        let folder = temporary_folder();
        let file = folder.path().join("program");
        std::os::unix::fs::symlink("/bin/cat", &file).unwrap();
        let server = tcp_server(options.iter().copied().chain(["--exec", "./program"]))
            .current_dir(folder.path())
            .code(code)
            .listen();
        std::fs::remove_file(file).unwrap();
        server
    }

    #[test]
    fn a_program_that_is_not_there_any_more_is_logged() {
        let server = server_without_its_program(&[], 0);
        server.connect().expect_eof();
        server.wait_for_line(
            "Connection from {*} closed: could not run ./program: no such file or directory.",
        );
    }

    #[test]
    fn what_a_program_leaves_behind_is_ended() {
        // The process in the background would live for an hour, and hold nothing of the connection.
        let line = "sleep 3600 <&- >&- 2>&- & echo $!";
        let server = tcp_server(["--sh-exec", line]).listen();
        let mut client = server.connect();
        let pid = String::from_utf8(client.receive_all()).unwrap();
        server.wait_for_line("Connection from {*} closed.");
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // What nobody has reaped yet has ended all the same.
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[test]
    fn an_urgent_byte_holds_nothing_up() {
        let server = tcp_server(["--exec", "/bin/cat"]).listen();
        let mut client = server.connect();
        client.send("abc");
        client.expect("abc");
        let flags = rustix::net::SendFlags::OOB;
        rustix::net::send(client.stream(), b"!", flags).unwrap();
        client.send("def");
        client.expect("def");
    }

    #[test]
    fn a_client_that_breaks_off_is_logged_though_the_program_has_more_to_say() {
        let server = tcp_server(["--sh-exec", "yes"]).listen();
        let mut client = server.connect();
        client.expect("y\n");
        client.reset();
        server.wait_for_line("Connection from {*} closed: {*}.");
    }

    #[test]
    fn options_that_a_program_has_no_use_for_are_refused() {
        netkit(["tcp-server", "-p", "0", "--no-shutdown", "--sh-exec", "cat"])
            .stderr("netkit: --no-shutdown needs --service stdio\n")
            .code(2)
            .run();
    }

    #[test]
    fn a_limit_is_logged_also_when_the_program_says_nothing_more() {
        let server = tcp_server([
            "--max-session",
            "0.3",
            "--sh-exec",
            "exec >&-; exec sleep 60",
        ]);
        let server = server.listen();
        let mut client = server.connect();
        client.expect_eof();
        server.wait_for_line("Connection from {*} closed: it was open for 300ms.");
    }

    #[test]
    fn how_a_program_failed_is_logged() {
        let server = tcp_server(["--sh-exec", "echo x; exit 3"]).listen();
        netkit(["tcp-client", &server.address()])
            .stdout("x\n")
            .run();
        server.wait_for_line(
            "Connection from {*} closed: 'echo x; exit 3' ended with exit status: 3.",
        );
    }

    #[test]
    fn once_is_an_error_when_its_program_is_not_there_any_more() {
        let server = server_without_its_program(&["--once"], 2);
        server.connect().drain();
        server.wait_for_line("netkit: could not run ./program: no such file or directory");
        server.finish();
    }

    #[test]
    fn a_program_that_ignores_sigterm_is_killed() {
        let line = "trap '' TERM; echo $$; while :; do sleep 0.1; done";
        let server = tcp_server(["--sh-exec", line]).listen();
        let mut client = server.connect();
        let pid = String::from_utf8(client.receive()).unwrap();
        client.reset();
        server.wait_for_line("Connection from {*} closed{*}.");
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[test]
    fn many_connections_leave_no_process_and_no_descriptor() {
        let server = tcp_server(["--exec", "/bin/cat"]).listen();
        let mut first = None;
        for _ in 0..60 {
            let mut client = server.connect();
            client.send("x");
            client.shutdown();
            client.expect("x");
            client.expect_eof();
            first.get_or_insert_with(|| descriptors(&server));
        }
        // Until then several may be on their way to their end.
        server.wait_for_lines("Connection from {*} closed.", 60);
        assert!(descriptors(&server) <= first.unwrap() + 2);
        assert_eq!(children(&server), Vec::<String>::new());
    }

    #[test]
    fn stream_options_apply_to_programs() {
        let server = tcp_server(["-C", "--sh-exec", "printf 'a\\nb\\r\\n'"]).listen();
        netkit(["tcp-client", &server.address()])
            .stdout("a\r\nb\r\n")
            .run();
        let server = tcp_server(["--send-only", "--sh-exec", "wc -c"]).listen();
        netkit(["tcp-client", &server.address()])
            .stdin("ignored")
            .stdout("0\n")
            .run();
        let folder = temporary_folder();
        let file = folder.path().join("got");
        let line = format!("cat > '{}'; echo unseen", file.display());
        let server = tcp_server(["--recv-only", "--sh-exec", &line]).listen();
        netkit(["tcp-client", &server.address()])
            .stdin("kept")
            .stdout("")
            .run();
        server.wait_for_line("Connection from {*} closed.");
        assert_eq!(fs::read(&file).unwrap(), b"kept");
    }
}

mod forward {
    use super::*;

    #[test]
    fn an_urgent_byte_holds_nothing_up_where_much_has_passed() {
        let echo = tcp_server(["--service", "echo"]).listen();
        let server = tcp_server(["--forward", &echo.address()]).listen();
        let mut client = server.connect();
        let bytes = random_bytes(1 << 20);
        let mut reader = Connection::new(client.stream().try_clone().unwrap());
        let expected = bytes.clone();
        let reading = spawn(move || reader.expect(expected));
        client.send(&bytes);
        reading.join().unwrap();
        rustix::net::send(client.stream(), b"!", rustix::net::SendFlags::OOB).unwrap();
        client.send("def");
        client.expect("def");
    }

    #[test]
    fn bytes_pass_both_ways() {
        let echo = tcp_server(["--service", "echo"]).listen();
        let server = tcp_server(["--forward", &echo.address()]).listen();
        let bytes = random_bytes(5_000_000);
        netkit(["tcp-client", &server.address()])
            .stdin(&bytes)
            .stdout(&bytes)
            .run();
    }

    #[test]
    #[ignore = "a gibibyte each way"]
    fn a_gibibyte_passes_both_ways() {
        let echo = tcp_server(["--service", "echo"]).listen();
        let server = tcp_server(["--forward", &echo.address()]).listen();
        let script =
            "head -c 1G /dev/urandom | tee >(sha256sum >&2) | \"$0\" \"$@\" | sha256sum >&2";
        let sums = netkit(["tcp-client", &server.address()])
            .through(script)
            .any_stderr()
            .within(Duration::from_secs(120))
            .run();
        let sums: Vec<_> = sums.stderr.lines().collect();
        assert_eq!(sums.len(), 2, "{sums:?}");
        assert_eq!(sums[0], sums[1]);
    }

    #[test]
    fn each_direction_ends_on_its_own() {
        let target = Peer::listen(|mut connection| {
            connection.send("greeting");
            connection.shutdown();
            connection.expect("all of it");
            connection.expect_eof();
        });
        let server = tcp_server(["--forward", target.address()]).listen();
        let mut client = server.connect();
        client.expect("greeting");
        client.expect_eof();
        client.send("all of it");
        client.shutdown();
        target.finish();
        server.wait_for_line("Connection from {*} closed.");

        let target = Peer::listen(|mut connection| {
            connection.expect("question");
            connection.expect_eof();
            connection.send("answer");
        });
        let server = tcp_server(["--forward", target.address()]).listen();
        let mut client = server.connect();
        client.send("question");
        client.shutdown();
        client.expect("answer");
        client.expect_eof();
    }

    #[test]
    fn a_target_that_is_down_is_logged() {
        let down = Peer::listen(|_| {});
        let address = down.address().to_owned();
        let server = tcp_server(["--forward", &address]).listen();
        server.connect().expect_eof();
        server.connect().expect_eof();
        server.wait_for_line(&format!(
            "Connection from {{*}} closed: could not connect to {address}: connection refused."
        ));
    }

    #[test]
    fn what_is_broken_off_on_one_side_is_broken_off_on_the_other() {
        let target = Peer::listen(|mut connection| {
            connection.send("half a fi");
            connection.expect("x");
            connection.reset();
        });
        let address = target.address().to_owned();
        let server = tcp_server(["--forward", &address]).listen();
        let mut client = server.connect();
        client.expect("half a fi");
        client.send("x");
        client.expect_reset();
        server.wait_for_line(&format!(
            "Connection from {{*}} closed: could not read {address}: connection reset by peer."
        ));

        let target = Peer::listen(|mut connection| {
            connection.expect("half a fi");
            connection.expect_reset();
        });
        let server = tcp_server(["--forward", target.address()]).listen();
        let mut client = server.connect();
        client.send("half a fi");
        server.wait_for_line("Accept new connection from {*}");
        client.reset();
        target.finish();
    }

    #[test]
    fn what_is_broken_off_while_much_is_on_its_way_does_not_look_complete() {
        // Which call meets the reset is chance, and the kernel tells it only once.
        for received in (0..10).map(|round| (64 << 10) + round % 5 * 500_000) {
            let target = Peer::listen(move |mut connection| {
                connection.send("half a fi");
                connection.expect(vec![b'x'; received]);
                connection.reset();
            });
            let server = tcp_server(["--forward", target.address()]).listen();
            let mut client = server.connect();
            client.expect("half a fi");
            assert_eq!(client.send_until_left(), ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn a_target_that_takes_no_more_is_no_black_hole() {
        let target = Peer::listen(|mut connection| {
            connection.send("goodbye");
        });
        let server = tcp_server(["--forward", target.address()]).listen();
        let mut client = server.connect();
        client.expect("goodbye");
        client.send_until_left();
        server.wait_for_line("Connection from {*} closed: could not {*}.");
    }
}

#[test]
fn files_are_left_alone_by_a_server_that_cannot_listen() {
    let folder = temporary_folder();
    let file = folder.path().join("record");
    fs::write(&file, "precious").unwrap();
    let first = tcp_server([]).listen();
    netkit(["tcp-server", "-p", &first.port().to_string(), "--record"])
        .arg(&file)
        .arg("-e")
        .arg("/bin/cat")
        .any_stderr()
        .code(2)
        .run();
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
}

mod broker {
    use super::*;

    /// Members who have all joined, and who have nothing more to receive.
    fn members(server: &Server, count: usize, end: &str) -> Vec<Connection> {
        let mut first = server.connect();
        let mut all = Vec::new();
        for _ in 1..count {
            let member = server.connect();
            // Nobody says when a member has joined, but it then hears the others.
            member
                .stream()
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            loop {
                first.send(format!(".{end}"));
                if member.stream().peek(&mut [0]).is_ok() {
                    break;
                }
            }
            all.push(Connection::new(member.stream().try_clone().unwrap()));
        }
        first.send(format!("!{end}"));
        for member in &mut all {
            while !member.receive().ends_with(format!("!{end}").as_bytes()) {}
        }
        all.insert(0, first);
        all
    }

    #[test]
    fn what_one_sends_all_others_get() {
        let server = tcp_server(["--service", "broker"]).listen();
        let mut all = members(&server, 3, "");
        all[1].send("a\x1b\n");
        all[0].expect("a\x1b\n");
        all[2].expect("a\x1b\n");
        all[2].send("b");
        all[0].expect("b");
        all[1].expect("b");
    }

    #[test]
    fn a_chat_names_who_speaks_and_escapes_what_he_says() {
        let server = tcp_server(["--service", "chat"]).listen();
        let mut all = members(&server, 2, "\n");
        all[0].send("hello\r\n\x1b[2J\n");
        all[1].expect("<user1> hello\n<user1> \\x1b[2J\n");
        all[1].send("to ");
        all[1].send("you\n");
        all[0].expect("<user2> to you\n");
    }

    #[test]
    fn who_does_not_read_is_dropped_and_all_others_get_every_byte() {
        // Far less at a time than may wait for a member: only the deaf one is ever behind.
        const CHUNK: usize = 512 << 10;
        let server = tcp_server(["--service", "broker"]).listen();
        let mut all = members(&server, 20, "");
        let deaf = all.pop().unwrap();
        let mut sender = all.pop().unwrap();
        for bytes in random_bytes(12 << 20).chunks(CHUNK) {
            sender.send(bytes);
            for reader in &mut all {
                reader.expect(bytes);
            }
        }
        server.wait_for_line(&format!(
            "Connection from {} closed: it did not read, and 4194304 bytes were waiting for it.",
            deaf.local()
        ));
    }

    #[test]
    fn who_ends_his_input_leaves() {
        let server = tcp_server(["--service", "broker"]).listen();
        let mut client = server.connect();
        client.shutdown();
        client.expect_eof();
        server.wait_for_line("Connection from {*} closed.");
    }
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
