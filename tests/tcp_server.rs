//! `netkit tcp-server`: its services, what limits a connection, where it listens, and how it ends.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::harness::{Connection, Server, event, netkit, random_bytes, spawn, tcp_server};

/// Everything that a server of the default service says to a client that says `input` and ends.
fn answer(arguments: &[&str], input: impl AsRef<[u8]>) -> String {
    let server = tcp_server(arguments.iter().copied()).listen();
    let mut client = server.connect();
    client.send(input);
    client.shutdown();
    let answer = client.receive_all();
    server.stop();
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_connection_is_logged_from_its_beginning_to_its_end() {
    let mut server = tcp_server([]).stderr("").listen();
    let address = server.address();
    server.expect_line(&format!("Listening on {address}"));
    server.expect_line("Waiting for connection...");
    let mut client = server.connect();
    server.expect_line(&format!("Accept new connection from {}...", client.local()));
    client.expect("Welcome!");
    client.shutdown();
    client.expect_eof();
    server.expect_line(&format!("Connection from {} closed.", client.local()));
    server.stop();
}

mod hello {
    use super::*;

    #[test]
    fn messages_without_an_end_are_answered_one_by_one() {
        let server = tcp_server([]).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        for name in ["Michael", "Tracy", "Sarah"] {
            client.send(name);
            client.expect(format!("Hello, {name}!"));
        }
        client.send("exit");
        client.expect_eof();
        server.wait_for_line(&format!("Connection from {} closed.", client.local()));
    }

    #[test]
    fn a_peer_that_is_quick_for_long_is_answered_as_at_first() {
        let server = tcp_server(["--idle-timeout", "3s"]).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        for number in 0..2000 {
            client.send(format!("{number}\n"));
            client.expect(format!("Hello, {number}!\n"));
        }
        client.send("slow");
        client.expect_nothing_for(Duration::from_millis(50));
        client.send("er\n");
        client.expect("Hello, slower!\n");
        // The limit holds as well.
        client.expect_eof();
        let local = client.local();
        server.wait_for_line(&format!(
            "Connection from {local} closed: nothing moved for 3s."
        ));
    }

    #[test]
    fn a_peer_that_was_quick_for_long_may_end_at_once() {
        for service in ["hello", "echo"] {
            let server = tcp_server(["--service", service]).listen();
            let mut client = server.connect();
            let (welcome, greeting, end) = match service {
                "hello" => ("Welcome!", "Hello, ", "!\n"),
                _ => ("", "", "\n"),
            };
            client.expect(welcome);
            for number in 0..500 {
                client.send(format!("{number}\n"));
                client.expect(format!("{greeting}{number}{end}"));
            }
            client.shutdown();
            client.expect_eof();
            server.wait_for_line(&format!("Connection from {} closed.", client.local()));
        }
    }

    #[test]
    fn lines_in_one_segment_are_answered_as_lines() {
        assert_eq!(
            answer(&[], "a\nb\nexit\n"),
            "Welcome!Hello, a!\nHello, b!\n"
        );
    }

    #[test]
    fn every_end_of_exit_ends_the_connection() {
        for exit in ["exit", "exit\n", "exit\r\n"] {
            let server = tcp_server([]).listen();
            let mut client = server.connect();
            client.expect("Welcome!");
            client.send(exit);
            client.expect_eof();
        }
    }

    #[test]
    fn what_follows_exit_is_not_answered() {
        assert_eq!(answer(&[], "a\nexit\nb\n"), "Welcome!Hello, a!\n");
        assert_eq!(answer(&[], "exit now\n"), "Welcome!Hello, exit now!\n");
    }

    #[test]
    fn a_line_keeps_its_own_end() {
        assert_eq!(
            answer(&[], "a\r\n\n\r\nb\n"),
            "Welcome!Hello, a!\r\nHello, !\nHello, !\r\nHello, b!\n"
        );
    }

    #[test]
    fn an_incomplete_last_line_is_answered_at_the_end() {
        assert_eq!(answer(&[], "a\nb"), "Welcome!Hello, a!\nHello, b!");
    }

    #[test]
    fn nothing_at_all_is_only_welcomed() {
        assert_eq!(answer(&[], ""), "Welcome!");
    }

    #[test]
    fn lines_begin_with_the_first_newline_and_stay() {
        let server = tcp_server([]).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        client.send("Michael");
        client.expect("Hello, Michael!");
        client.send("a\nb");
        client.expect("Hello, a!\n");
        client.send("c");
        client.expect_nothing_for(Duration::from_millis(100));
        client.send("\r");
        client.send("\n");
        client.expect("Hello, bc!\r\n");
        client.shutdown();
        client.expect_eof();
    }

    #[test]
    fn messages_are_bytes() {
        let server = tcp_server([]).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        client.send(b"\xff\0\x1b[2J");
        client.expect(b"Hello, \xff\0\x1b[2J!");
    }

    #[test]
    fn framing_by_line_waits_for_the_end_of_the_line() {
        let server = tcp_server(["--framing", "line"]).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        client.send("Mic");
        client.expect_nothing_for(Duration::from_millis(100));
        client.send("hael\n");
        client.expect("Hello, Michael!\n");
    }

    #[test]
    fn framing_by_read_takes_newlines_as_they_are() {
        let server = tcp_server(["--framing", "read"]).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        client.send("a\nb\n");
        client.expect("Hello, a\nb\n!");
        client.send("exit\r\n");
        client.expect_eof();
    }

    #[test]
    fn the_welcome_can_be_another() {
        assert_eq!(answer(&["--welcome", "Grüß Gott! "], ""), "Grüß Gott! ");
        assert_eq!(answer(&["--welcome", ""], "a\n"), "Hello, a!\n");
    }

    #[test]
    fn delay_comes_before_every_answer() {
        let server = tcp_server(["--delay", "0.2"]).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        let start = Instant::now();
        client.send("a\nb\n");
        client.expect("Hello, a!\n");
        let first = start.elapsed();
        client.expect("Hello, b!\n");
        let second = start.elapsed();
        let delay = Duration::from_millis(200);
        assert!(
            first >= delay && second >= 2 * delay,
            "{first:?} {second:?}"
        );
    }

    #[test]
    fn a_message_that_is_too_long_ends_the_connection() {
        let server = tcp_server(["--max-message", "3"]).listen();
        let mut client = server.connect();
        client.send("abc\nabcd\nabc\n");
        client.expect("Welcome!Hello, abc!\n");
        client.expect_eof();
        server.wait_for_line(&format!(
            "Connection from {} closed: a message is longer than 3 bytes.",
            client.local()
        ));
    }

    #[test]
    fn a_message_may_have_64_kib() {
        let longest = "x".repeat(64 << 10);
        let line = &["--framing", "line"];
        assert!(answer(line, format!("{longest}\n")) == format!("Welcome!Hello, {longest}!\n"));
        assert_eq!(answer(line, format!("{longest}x\n")), "Welcome!");
    }

    #[test]
    fn many_messages_are_answered_while_they_are_still_being_sent() {
        let server = tcp_server([]).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        let writer = client.stream().try_clone().unwrap();
        let sending = spawn(move || {
            let mut writer = Connection::new(writer);
            writer.send("x\n".repeat(300_000));
            writer.shutdown();
        });
        assert!(client.receive_all() == "Hello, x!\n".repeat(300_000).as_bytes());
        sending.join().unwrap();
    }

    #[test]
    fn two_hundred_clients_each_see_their_own_answers() {
        let server = tcp_server([]).listen();
        let mut clients: Vec<Connection> = (0..200).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.expect("Welcome!");
        }
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.send(format!("{number} in {round}"));
            }
            for (number, client) in clients.iter_mut().enumerate() {
                client.expect(format!("Hello, {number} in {round}!"));
            }
        }
        for client in &mut clients {
            client.send("exit");
            client.expect_eof();
        }
        server.wait_for_lines("Connection from {*} closed.", 200);
        server.stop();
    }
}

mod services {
    use super::*;

    /// The scheduling policy of every thread of a process (proc(5)).
    #[cfg(target_os = "linux")]
    fn policies(process: impl std::fmt::Display) -> Vec<String> {
        std::fs::read_dir(format!("/proc/{process}/task"))
            .unwrap()
            // A thread may end meanwhile.
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok())
            .map(|stat| {
                let fields = stat.rsplit_once(") ").unwrap().1;
                fields.split(' ').nth(38).unwrap().to_owned()
            })
            .collect()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_a_crowd_of_clients_is_not_interrupted() {
        const CROWD: usize = 16;
        if policies("self").iter().any(|own| own != "0") {
            eprintln!("skipped: the tests run under another policy than the usual one");
            return;
        }
        let server = tcp_server([]).listen();
        let under = |policy| {
            let policies = policies(server.pid());
            policies.iter().filter(|other| *other == policy).count()
        };
        // Once the second is answered its thread has seen what came before.
        let exchange = |client: &mut Connection| {
            for name in ["a", "b"] {
                client.send(name);
                client.expect(format!("Hello, {name}!"));
            }
        };
        let mut clients = Vec::new();
        for count in 1..=CROWD {
            assert_eq!(under("3"), 0, "before client {count}");
            let mut client = server.connect();
            client.expect("Welcome!");
            exchange(&mut client);
            clients.push(client);
        }
        clients.iter_mut().for_each(exchange);
        assert!(under("3") >= CROWD);
        let before = under("0");
        let mut last = clients.pop().unwrap();
        for mut client in clients {
            client.send("exit");
            client.expect_eof();
        }
        exchange(&mut last);
        assert!(under("0") > before);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_runs_under_the_policy_that_the_server_was_started_with() {
        let own = policies("self");
        let asks = ["-e", "cut", "-d", " ", "-f", "41", "/proc/self/stat"];
        let server = tcp_server(asks).listen();
        let said = server.connect().receive_all();
        assert_eq!(String::from_utf8(said).unwrap(), format!("{}\n", own[0]));
    }

    #[test]
    fn echo_sends_back_what_it_gets() {
        let server = tcp_server(["--service", "echo"]).listen();
        let mut client = server.connect();
        client.send(b"a\0\xff\r\n");
        client.expect(b"a\0\xff\r\n");
        client.send("b");
        client.shutdown();
        client.expect("b");
        client.expect_eof();
    }

    #[test]
    fn discard_says_nothing() {
        let server = tcp_server(["--service", "discard"]).listen();
        let mut client = server.connect();
        client.send(random_bytes(3_000_000));
        client.expect_nothing_for(Duration::from_millis(100));
        client.shutdown();
        client.expect_eof();
    }

    #[test]
    fn chargen_has_served_a_client_that_has_had_enough() {
        let server = tcp_server(["--service", "chargen"]).listen();
        let mut client = server.connect();
        client.expect(" !");
        let name = client.local();
        drop(client);
        server.wait_for_line(&format!("Connection from {name} closed."));
    }

    #[test]
    fn chargen_sends_the_lines_of_rfc_864_until_the_client_goes() {
        let server = tcp_server(["--service", "chargen"]).listen();
        let mut client = server.connect();
        // It is not the end of input that ends it.
        client.shutdown();
        let characters: Vec<u8> = (b' '..=b'~').collect();
        for line in 0..1000 {
            let characters = characters.iter().cycle().skip(line % 95).take(72);
            client.expect(characters.copied().collect::<Vec<u8>>());
            client.expect("\r\n");
        }
        let name = client.local();
        drop(client);
        server.wait_for_line(&format!("Connection from {name} closed."));
    }

    #[test]
    fn a_client_that_breaks_off_is_logged_with_its_reason() {
        for service in ["hello", "echo", "discard"] {
            let server = tcp_server(["--service", service]).listen();
            let client = server.connect();
            server.wait_for_line(&format!("Accept new connection from {}...", client.local()));
            let name = client.local();
            client.reset();
            server.wait_for_line(&format!(
                "Connection from {name} closed: connection reset by peer."
            ));
            server.connect();
        }
    }
}

mod limits {
    use super::*;

    /// A client that is connected and was greeted.
    fn greeted(server: &Server) -> Connection {
        let mut client = server.connect();
        client.expect("Welcome!");
        client
    }

    /// Waits until the server is done with a client.
    #[track_caller]
    fn wait_for_end(server: &Server, client: &str) {
        server.wait_for_line(&format!("Connection from {client} closed{{*}}"));
    }

    #[test]
    fn once_serves_one_and_refuses_the_next() {
        let mut server = tcp_server(["-1"]).code(0).listen();
        let address: SocketAddr = server.address().parse().unwrap();
        let mut client = greeted(&server);
        // Until the listening socket is closed another one may get into its queue, but no further.
        while let Ok(stream) = TcpStream::connect(address) {
            let mut early = Connection::new(stream);
            early.expect_reset();
        }
        client.send("Michael");
        client.expect("Hello, Michael!");
        assert!(!server.has_ended());
        client.send("exit");
        client.expect_eof();
        drop(client);
        server.finish();
    }

    #[test]
    fn once_ends_also_when_the_client_breaks_off() {
        let server = tcp_server(["--once"]).code(0).listen();
        greeted(&server).reset();
        server.finish();
    }

    #[test]
    fn connections_beyond_the_limit_are_closed_and_logged_once_an_episode() {
        let server = tcp_server(["-m", "2"]).listen();
        let first = greeted(&server);
        let _second = greeted(&server);
        for _ in 0..3 {
            server.connect().expect_eof();
        }
        let name = first.local();
        drop(first);
        wait_for_end(&server, &name);
        let _third = greeted(&server);
        for _ in 0..3 {
            server.connect().expect_eof();
        }
        server.signal(Signal::TERM);
        server.wait_for_line("netkit: closed 6 connections in all: too many were open");
        let log = server.log();
        assert_eq!(log.matches("2 are open already").count(), 1, "{log}");
    }

    #[test]
    fn who_has_seen_the_end_of_his_connection_may_connect_again_at_once() {
        let server = tcp_server(["-m", "1", "--max-connections-per-ip", "1"]).listen();
        for _ in 0..200 {
            let mut client = greeted(&server);
            client.send("exit");
            client.expect_eof();
        }
    }

    #[test]
    fn a_place_is_free_again_however_a_connection_ended() {
        let server = tcp_server(["-m", "1", "--idle-timeout", "200ms", "--max-message", "8"]);
        let server = server.listen();
        let ends: [fn(Connection); 6] = [
            |mut client| client.send("exit"),
            |mut client| client.shutdown(),
            drop,
            Connection::reset,
            |mut client| client.send("much too long\n"),
            |mut client| client.expect_eof(),
        ];
        for end in ends {
            let client = greeted(&server);
            let name = client.local();
            end(client);
            wait_for_end(&server, &name);
        }
        greeted(&server);
    }

    #[test]
    fn idle_timeout_closes_a_silent_connection_only() {
        let server = tcp_server(["--idle-timeout", "2s"]).listen();
        let mut busy = greeted(&server);
        let mut silent = greeted(&server);
        let end = format!(
            "Connection from {} closed: nothing moved for 2s.",
            silent.local()
        );
        // Five times as long as it should take.
        for _ in 0..100 {
            if server.log().contains(&end) {
                break;
            }
            busy.hold_for(Duration::from_millis(100));
            busy.send("x");
            busy.expect("Hello, x!");
        }
        silent.expect_eof();
        server.wait_for_line(&end);
        busy.send("exit");
        busy.expect_eof();
        server.wait_for_line(&format!("Connection from {} closed.", busy.local()));
    }

    #[test]
    fn idle_timeout_closes_a_connection_whose_client_reads_nothing() {
        for service in ["echo", "chargen"] {
            let server = tcp_server(["--service", service, "--idle-timeout", "300ms"]).listen();
            let mut client = server.connect();
            if service == "echo" {
                client.send_until_full();
            }
            server.wait_for_line(&format!(
                "Connection from {} closed: nothing moved for 300ms.",
                client.local()
            ));
        }
    }

    #[test]
    fn max_session_closes_a_connection_however_busy() {
        for service in ["hello", "echo", "discard", "chargen"] {
            let server = tcp_server(["--service", service, "--max-session", "300ms"]).listen();
            let mut client = server.connect();
            let start = Instant::now();
            if service == "chargen" {
                client.drain();
            } else {
                client.send_until_left();
            }
            let age = start.elapsed();
            assert!(age >= Duration::from_millis(250), "{service}: {age:?}");
            server.wait_for_line(&format!(
                "Connection from {} closed: it was open for 300ms.",
                client.local()
            ));
        }
    }

    #[test]
    fn max_session_counts_the_delay_too() {
        let server = tcp_server(["--delay", "1h", "--max-session", "300ms"]).listen();
        let mut client = greeted(&server);
        client.send("Michael");
        server.wait_for_line("Connection from {*} closed: it was open for 300ms.");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_server_without_descriptors_waits_quietly_and_recovers() {
        const FULL: &str = "netkit: could not accept a connection: too many open files; \
                            new ones have to wait";
        let server = tcp_server([]).ulimit("-n 16").listen();
        let mut clients: Vec<Connection> = (0..40).map(|_| server.connect()).collect();
        server.wait_for_line(FULL);
        // How much it does in a time cannot be known before that has passed.
        let before = server.cpu_time();
        clients[39].expect_nothing_for(Duration::from_secs(2));
        let used = server.cpu_time().saturating_sub(before);
        assert!(used < Duration::from_millis(60), "{used:?}");
        assert_eq!(server.log().matches("could not accept").count(), 1);
        for mut client in clients {
            client.expect("Welcome!");
            client.send("Michael");
            client.expect("Hello, Michael!");
        }
        greeted(&server);
    }

    #[test]
    fn a_low_soft_limit_of_descriptors_does_not_hold_back_connections_that_are_allowed() {
        let server = tcp_server(["-m", "20000"]).ulimit("-Sn 64").listen();
        let clients: Vec<Connection> = (0..100).map(|_| greeted(&server)).collect();
        assert_eq!(clients.len(), 100);
    }

    #[test]
    fn options_that_would_do_nothing_are_refused() {
        for (words, message) in [
            (
                "--service echo --welcome x",
                "--welcome needs --service hello",
            ),
            ("--framing line -e cat", "--framing needs --service hello"),
            ("-C", "-C needs --service stdio, -e or --sh-exec"),
            ("--raw", "--raw needs --service stdio"),
        ] {
            netkit(
                ["tcp-server", "-p", "0"]
                    .into_iter()
                    .chain(words.split(' ')),
            )
            .stderr(format!("netkit: {message}\n"))
            .code(2)
            .run();
        }
    }
}

mod listening {
    use super::*;

    #[test]
    fn both_families_get_the_same_free_port() {
        let server = tcp_server(["-b", "127.0.0.1", "--bind", "::1"]).listen();
        let addresses = server.addresses(2);
        assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6());
        assert_eq!(addresses[0].port(), addresses[1].port());
        for address in addresses {
            let mut client = Connection::to(address);
            client.expect("Welcome!");
            server.wait_for_line(&format!("Accept new connection from {}...", client.local()));
        }
    }

    #[test]
    fn names_and_brackets_are_understood() {
        let server = tcp_server(["--host", "[::1]"]).listen();
        assert!(server.address().starts_with("[::1]:"));
        server.connect().expect("Welcome!");
        let server = tcp_server(["-4", "-b", "localhost"]).listen();
        assert!(server.address().starts_with("127.0.0.1:"));
        server.connect().expect("Welcome!");
    }

    #[test]
    fn an_address_that_is_named_twice_is_listened_on_once() {
        let server = tcp_server(["-b", "127.0.0.1", "-b", "127.0.0.1"])
            .stderr("Listening on {*}\nWaiting for connection...\n")
            .listen();
        server.stop();
    }

    #[test]
    fn the_port_is_printed_for_scripts() {
        let mut server = tcp_server(["--print-port"]).listen();
        let port = server.receive_line("{N}");
        assert_eq!(port, server.port().to_string());
    }

    #[test]
    fn a_server_that_cannot_say_anything_serves() {
        for redirection in ["2>&-", "2>/dev/full", "2> >(:)"] {
            let mut server = tcp_server(["--print-port"])
                .through(&format!("exec \"$0\" \"$@\" {redirection}"))
                .start();
            let port = server.receive_line("{N}").parse().unwrap();
            for _ in 0..3 {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let mut client = Connection::to(address);
                client.expect("Welcome!");
                client.send("Michael");
                client.expect("Hello, Michael!");
                client.reset();
            }
            server.signal(Signal::TERM);
            server.finish();
        }
    }

    #[test]
    fn the_port_can_be_listened_on_again_at_once() {
        let server = tcp_server([]).listen();
        let address = server.address();
        let mut client = server.connect();
        client.expect("Welcome!");
        // The side that closes first is the one that has to remember the connection.
        client.send("exit");
        client.expect_eof();
        drop(client);
        let port = server.port().to_string();
        server.stop();
        let again = netkit(["tcp-server", "-p", &port]).any_stderr().listen();
        assert_eq!(again.address(), address);
    }
}

mod stopping {
    use super::*;

    /// Whether a process is there.
    fn is_running(pid: &str) -> bool {
        let pid = pid.trim_end().parse().ok().and_then(Pid::from_raw);
        rustix::process::test_kill_process(pid.unwrap()).is_ok()
    }

    #[test]
    fn no_program_is_left_behind() {
        let server = tcp_server(["--drain-timeout", "0.3", "--sh-exec"])
            .arg("echo $$; exec sleep 60")
            .code(4)
            .listen();
        let mut client = server.connect();
        let pid = String::from_utf8(client.receive()).unwrap();
        assert!(is_running(&pid));
        server.signal(Signal::TERM);
        server.finish();
        assert!(!is_running(&pid));
    }

    #[test]
    fn a_program_does_not_outlive_its_client() {
        let server = tcp_server(["--sh-exec", "echo $$; exec sleep 60"]).listen();
        let mut client = server.connect();
        let pid = String::from_utf8(client.receive()).unwrap();
        assert!(is_running(&pid));
        client.shutdown();
        client.reset();
        server.wait_for_line("Connection from {*} closed{*}");
        assert!(!is_running(&pid));
    }

    #[test]
    fn a_server_without_connections_stops_at_once() {
        for signal in [Signal::INT, Signal::TERM] {
            let server = tcp_server([])
                .stderr("Listening on {*}\nWaiting for connection...\n")
                .listen();
            server.wait_for_line("Waiting for connection...");
            server.signal(signal);
            server.finish();
        }
    }

    #[test]
    fn a_transfer_is_completed_while_new_connections_are_refused() {
        let bytes = random_bytes(2_000_000);
        let (half, rest) = bytes.split_at(1_000_000);
        let server = tcp_server(["--service", "echo"]).listen();
        let address: SocketAddr = server.address().parse().unwrap();
        let mut client = server.connect();
        client.send(&half[..1000]);
        client.expect(&half[..1000]);
        server.signal(Signal::TERM);
        server.wait_for_line("Waiting for 1 open connection(s) to end...");
        let error = TcpStream::connect(address).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        let writer = client.stream().try_clone().unwrap();
        let (half, rest) = (half[1000..].to_vec(), rest.to_vec());
        let (received, go_on) = event();
        let expected = half.clone();
        let sending = spawn(move || {
            let mut writer = Connection::new(writer);
            writer.send(half);
            go_on.wait();
            writer.send(rest);
            writer.shutdown();
        });
        client.expect(expected);
        received.happen();
        assert!(client.receive_all() == bytes[1_000_000..]);
        sending.join().unwrap();
        drop(client);
        let server = server.finish();
        assert!(server.stderr.ends_with(" closed.\n"), "{server:?}");
    }

    #[test]
    fn a_connection_that_does_not_end_is_cut_off() {
        let server = tcp_server(["--drain-timeout", "0.3"]).code(4).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        let start = Instant::now();
        server.signal(Signal::INT);
        client.expect_eof();
        assert!(start.elapsed() >= Duration::from_millis(300));
        server.wait_for_line("netkit: could not drain 1 connection(s): cut off after 300ms");
        server.finish();
    }

    #[test]
    fn every_service_can_be_cut_off() {
        for service in ["hello", "echo", "discard", "chargen"] {
            let server = tcp_server(["--service", service, "--drain-timeout", "0"]);
            let server = server.code(4).listen();
            let client = server.connect();
            server.wait_for_line("Accept new connection from {*}");
            server.signal(Signal::TERM);
            server.finish();
            drop(client);
        }
    }

    #[test]
    fn a_second_signal_ends_at_once() {
        let server = tcp_server(["--drain-timeout", "1h"])
            .killed_by(Signal::TERM)
            .listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        server.signal(Signal::INT);
        server.wait_for_line("Waiting for 1 open connection(s) to end...");
        server.signal(Signal::TERM);
        server.finish();
    }
}
