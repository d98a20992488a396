//! What needs root: port 80, networks that lose what is sent to them, and two hosts on a wire. Every
//! test has a network of its own.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::harness::namespace::{Host, add_address, black_hole, in_namespace};
use crate::harness::{
    Connection, DEADLINE, Folder, Peer, Program, Server, Terminal, netkit, peer, program,
    random_bytes, tcp_server, temporary_folder, udp_server,
};

mod fetching {
    use super::*;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

    /// A web server that gets exactly `request`, and no end of input before it has answered.
    fn server(request: &'static str) -> Peer {
        Peer::listen_on("127.0.0.1:80", move |mut connection| {
            connection.expect(request);
            connection.expect_nothing_for(Duration::from_millis(100));
            connection.send("page");
        })
    }

    #[test]
    #[ignore = "needs root"]
    fn port_80_without_input_is_asked_for_its_page() {
        in_namespace(|| {
            for redirection in ["</dev/null", "<&-", "< <(true)"] {
                let server = server(REQUEST);
                netkit(["tcp-client", "127.0.0.1:80"])
                    .through(&format!("exec \"$0\" \"$@\" {redirection}"))
                    .stdout("page")
                    .run();
                server.finish();
            }
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn port_80_is_asked_for_its_page_from_a_terminal() {
        in_namespace(|| {
            let _server = server(REQUEST);
            let mut terminal = Terminal::open();
            netkit(["tcp-client", "127.0.0.1:80"])
                .stdin_from(terminal.device())
                .stdout_to(terminal.device())
                .stderr("Fetching http://127.0.0.1/ (--interactive lets you type a request)\n")
                .run();
            terminal.expect("page");
            terminal.finish();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn interactive_lets_one_type_a_request() {
        in_namespace(|| {
            let _server = server("GET /\n");
            let mut terminal = Terminal::open();
            let client = netkit(["tcp-client", "--interactive", "127.0.0.1:80"])
                .stdin_from(terminal.device())
                .stdout("page")
                .start();
            terminal.type_in("GET /\n");
            client.finish();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_request_that_is_given_is_all_that_is_sent() {
        in_namespace(|| {
            let piped = Peer::listen_on("127.0.0.1:80", |mut connection| {
                connection.expect("HEAD / HTTP/1.0\r\n\r\n");
                connection.expect_eof();
                connection.send("head");
            });
            netkit(["tcp-client", "127.0.0.1:80"])
                .stdin("HEAD / HTTP/1.0\r\n\r\n")
                .stdout("head")
                .run();
            piped.finish();
            let by_option = Peer::listen_on("127.0.0.1:80", |mut connection| {
                connection.expect("x");
                connection.expect_eof();
            });
            netkit(["tcp-client", "127.0.0.1:80", "--send", "x"]).run();
            by_option.finish();
            let nothing = Peer::listen_on("127.0.0.1:80", |mut connection| {
                connection.expect_nothing_for(Duration::from_millis(200));
            });
            netkit(["tcp-client", "127.0.0.1:80", "--recv-only"]).run();
            nothing.finish();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_page_of_a_real_server_is_fetched_whole() {
        in_namespace(|| {
            let folder = temporary_folder();
            let page = random_bytes(5_000_000);
            std::fs::write(folder.path().join("index.html"), &page).unwrap();
            let arguments = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "80"];
            let Some(server) = peer("python3", arguments) else {
                return;
            };
            let mut server = server.current_dir(folder.path()).start();
            server.receive_line("Serving HTTP on 127.0.0.1 port 80 {*}");
            let client = netkit(["tcp-client", "127.0.0.1:80"]).any_stdout().run();
            assert!(client.stdout.starts_with(b"HTTP/1.0 200 OK\r\n"));
            assert!(client.stdout.ends_with(&page));
        });
    }
}

mod connecting {
    use super::*;

    /// A hosts file in which `both.test` has an IPv6 and an IPv4 address, which exist.
    fn hosts() -> Folder {
        add_address("2001:db8::1/128");
        add_address("192.0.2.1/32");
        let folder = temporary_folder();
        let names = "2001:db8::1 both.test\n192.0.2.1 both.test\n";
        std::fs::write(folder.path().join("hosts"), names).unwrap();
        folder
    }

    /// A client in a world where `both.test` is in that folder's hosts file.
    fn client(hosts: &Folder, words: &[&str]) -> Program {
        netkit(["tcp-client"].iter().chain(words))
            .with_file(&hosts.path().join("hosts"), "/etc/hosts")
    }

    /// A server at one of its addresses, which is sent `found`.
    fn server(ip: &str) -> Peer {
        Peer::listen_on((ip, 0), |mut connection| {
            connection.expect("found");
            connection.expect_eof();
        })
    }

    #[test]
    #[ignore = "needs root"]
    fn an_address_that_does_not_answer_costs_a_quarter_of_a_second() {
        in_namespace(|| {
            let hosts = hosts();
            black_hole("2001:db8::/32");
            let server = server("192.0.2.1");
            let client = client(&hosts, &["both.test", server.port()]);
            // One after another they would have used up the time limit.
            let client = client.stdin("found").run();
            assert!(client.took >= Duration::from_millis(250), "{client:?}");
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn an_address_that_refuses_costs_nothing() {
        in_namespace(|| {
            let hosts = hosts();
            // A quarter of a second for each would be more than there is.
            let refusing = (0..200).map(|number| format!("127.1.1.{number} both.test"));
            let mut names: Vec<String> = refusing.collect();
            names.push("192.0.2.1 both.test\n".to_owned());
            std::fs::write(hosts.path().join("hosts"), names.join("\n")).unwrap();
            let server = server("192.0.2.1");
            let client = client(&hosts, &["both.test", server.port()]);
            client.stdin("found").run();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn only_the_winner_of_the_race_is_seen_by_its_peer() {
        in_namespace(|| {
            let hosts = hosts();
            let server = server("2001:db8::1");
            let other = std::net::TcpListener::bind(("192.0.2.1", server.port().parse().unwrap()));
            let other = other.unwrap();
            let client = client(&hosts, &["both.test", server.port()]);
            client.stdin("found").run();
            other.set_nonblocking(true).unwrap();
            let error = other.accept().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn addresses_that_do_not_answer_end_at_the_connect_timeout() {
        in_namespace(|| {
            let hosts = hosts();
            black_hole("2001:db8::/32");
            black_hole("192.0.2.0/24");
            let client = client(&hosts, &["-w", "0.6", "both.test:9999"])
                .stderr(
                    "netkit: could not connect to both.test:9999: \
                     no answer within 600ms from [2001:db8::1]:9999, 192.0.2.1:9999\n",
                )
                .code(4)
                .run();
            assert!(client.took >= Duration::from_millis(600), "{client:?}");
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn every_address_that_was_tried_is_named_with_its_reason() {
        in_namespace(|| {
            let hosts = hosts();
            client(&hosts, &["both.test:9999"])
                .stderr(
                    "netkit: could not connect to both.test:9999: \
                     [2001:db8::1]:9999: connection refused; \
                     192.0.2.1:9999: connection refused\n",
                )
                .code(1)
                .run();
            black_hole("192.0.2.0/24");
            client(&hosts, &["-w", "0.3", "both.test:9999"])
                .stderr(
                    "netkit: could not connect to both.test:9999: \
                     [2001:db8::1]:9999: connection refused; \
                     no answer within 300ms from 192.0.2.1:9999\n",
                )
                .code(4)
                .run();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn an_unreachable_network_is_exit_code_1() {
        in_namespace(|| {
            netkit(["tcp-client", "192.0.2.1:9999"])
                .stderr("netkit: could not connect to 192.0.2.1:9999: network is unreachable\n")
                .code(1)
                .run();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_name_server_that_does_not_answer_counts_towards_the_connect_timeout() {
        in_namespace(|| {
            let _silent = UdpSocket::bind("127.0.0.1:53").unwrap();
            let folder = temporary_folder();
            let file = folder.path().join("resolv.conf");
            std::fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
            netkit(["tcp-client", "-w", "0.3", "name.test:9999"])
                .with_file(&file, "/etc/resolv.conf")
                .stderr("netkit: could not resolve name.test: no answer within 300ms\n")
                .code(4)
                .run();
        });
    }
}

mod listening {
    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn any_of_one_family_is_that_family_only() {
        in_namespace(|| {
            for (option, address) in [("-4", "0.0.0.0"), ("-6", "[::]")] {
                let mut server = tcp_server(["--bind", "any", option]).listen();
                server.expect_line(&format!("Listening on {address}:{{*}}"));
                server.expect_line("netkit: every host that can reach {*}");
            }
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn any_is_all_addresses_of_both_families_and_says_who_can_connect() {
        in_namespace(|| {
            add_address("192.0.2.1/32");
            add_address("2001:db8::1/128");
            let mut server = tcp_server(["--bind", "any"]).listen();
            let port = server.port();
            server.expect_line(&format!("Listening on 0.0.0.0:{port}"));
            server.expect_line(&format!("Listening on [::]:{port}"));
            server.expect_line(
                "netkit: every host that can reach this machine can connect: \
                 it listens on all its addresses",
            );
            server.expect_line("Waiting for connection...");
            for ip in ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"] {
                let mut client = Connection::to(SocketAddr::new(ip.parse().unwrap(), port));
                client.expect("Welcome!");
                server.wait_for_line(&format!("Accept new connection from {}...", client.local()));
            }
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn an_address_that_others_can_reach_is_said_to_be_so() {
        in_namespace(|| {
            add_address("192.0.2.1/32");
            tcp_server(["-b", "127.0.0.1", "-b", "192.0.2.1"])
                .stderr(
                    "Listening on 127.0.0.1:{N}\nListening on 192.0.2.1:{N}\n\
                     netkit: every host that can reach 192.0.2.1 can connect\n\
                     Waiting for connection...\n",
                )
                .listen()
                .stop();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_server_without_threads_closes_connections_and_recovers() {
        in_namespace(|| {
            // A user of its own, so that nobody else's threads count; and a place where it may go.
            let folder = temporary_folder();
            let copy = folder.path().join("netkit");
            std::fs::copy(env!("CARGO_BIN_EXE_netkit"), &copy).unwrap();
            let server = program(copy, ["tcp-server", "-p", "0"])
                .through(
                    "exec setpriv --reuid=48123 --regid=48123 --clear-groups \
                     bash -c 'ulimit -u 3; exec \"$0\" \"$@\"' \"$0\" \"$@\"",
                )
                .any_stderr()
                .listen();
            let mut clients: Vec<Connection> = (0..6).map(|_| server.connect()).collect();
            let greetings: Vec<_> = clients.iter_mut().map(Connection::receive).collect();
            let greeted = greetings.iter().filter(|greeting| !greeting.is_empty());
            let greeted = greeted.count();
            assert!((1..6).contains(&greeted), "{greetings:?}");
            server.wait_for_line("netkit: could not start a thread for {*}");
            drop(clients);
            server.wait_for_lines("Connection from {*} closed.", greeted);
            // A thread is still busy for a moment after that.
            let end = Instant::now() + DEADLINE;
            while server.connect().receive() != b"Welcome!" {
                assert!(Instant::now() < end, "the server should have recovered");
            }
        });
    }
}

/// Datagrams to all who have joined a group, or to all hosts of a network.
mod many {
    use super::*;

    /// A server's, free as the network is new.
    const PORT: &str = "9999";

    /// Groups of both families, as they are joined, and where they are sent to.
    const GROUPS: [(&str, &str); 3] = [
        ("239.1.2.3", "239.1.2.3:9999"),
        ("ff15::123", "[ff15::123]:9999"),
        ("ff02::123", "[ff02::123%near]:9999"),
    ];

    fn server(options: &[&str]) -> Program {
        netkit(["udp-server", "-p", PORT].iter().chain(options)).any_stderr()
    }

    /// Sends by the wire and not by the loopback interface.
    fn client(options: &[&str]) -> Program {
        let arguments = ["udp-client", "--multicast-interface", "near"];
        netkit(arguments.iter().chain(options))
    }

    /// Where `server` has received datagrams from.
    fn sources(server: Server) -> Vec<String> {
        let log = server.stop().stderr;
        let sources = log
            .lines()
            .filter_map(|line| line.strip_prefix("Received from "));
        sources.map(str::to_owned).collect()
    }

    #[test]
    #[ignore = "needs root"]
    fn all_members_of_a_group_answer_and_nobody_else_hears_it() {
        for (group, target) in GROUPS {
            in_namespace(move || {
                let host = Host::connect();
                let join = format!("{group}%far");
                // On one port, of which the group's datagrams reach only those who joined.
                let member = || {
                    server(&["--reuse-port", "--join", &join])
                        .on(&host)
                        .listen()
                };
                let members = [member(), member()];
                let other = server(&["--reuse-port", "-b", "any"]).on(&host).listen();

                let mut client = client(&["--relay", target]).stdin_open().start();
                client.send("x");
                client.receive("Hello, x!Hello, x!");
                client.close_input();
                client.finish();
                let (direct, source) = if group.contains(':') {
                    ("[2001:db8::2]:9999", "[2001:db8::1]:5000.")
                } else {
                    ("192.0.2.2:9999", "192.0.2.1:5000.")
                };
                netkit(["udp-client", "--source-port", "5000", direct, "y"])
                    .stdout("Hello, y!\n")
                    .run();
                for member in members {
                    assert_eq!(sources(member).len(), 1);
                }
                assert_eq!(sources(other), [source]);
            });
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn every_member_that_answers_a_probe_is_shown() {
        in_namespace(|| {
            let host = Host::connect();
            let member = || server(&["--join", "239.1.2.3%far"]).on(&host).listen();
            let _members = [member(), member()];
            let mut client = client(&["-i", "1h", "239.1.2.3:9999"]).start();
            client.receive_line("PING 239.1.2.3:9999 (239.1.2.3) 56(84) bytes of data.");
            client.receive_line("64 bytes from 192.0.2.2:9999: udp_seq=1 time={N} ms");
            client.receive_line("64 bytes from 192.0.2.2:9999: udp_seq=1 time={N} ms (DUP!)");
        });
    }

    /// One member on the sender's host and one on the other; they know the sender by its port.
    #[test]
    #[ignore = "needs root"]
    fn the_sender_says_how_far_a_datagram_goes() {
        for (group, target) in GROUPS {
            in_namespace(move || {
                let host = Host::connect();
                let here = server(&["--join", &format!("{group}%near")]).listen();
                let there = server(&["--join", &format!("{group}%far")]);
                let there = there.on(&host).listen();
                let sends = [
                    ("5001", &["--multicast-ttl", "0"][..], &[&here][..]),
                    ("5002", &["--no-multicast-loop"], &[&there]),
                    ("5003", &["--multicast-ttl", "1"], &[&here, &there]),
                ];
                for (port, options, receivers) in sends {
                    let words = ["--no-wait", "--source-port", port, target, "x"];
                    client(&[options, &words].concat()).run();
                    for receiver in receivers {
                        receiver.wait_for_line(&format!("Received from {{*}}:{port}."));
                    }
                }
                for (server, ports) in [(here, ["5001", "5003"]), (there, ["5002", "5003"])] {
                    let sources = sources(server);
                    let came = sources
                        .iter()
                        .map(|source| source.rsplit([':', '.']).nth(1));
                    assert!(came.eq(ports.map(Some)), "{sources:?}");
                }
            });
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_broadcast_has_to_be_meant() {
        in_namespace(|| {
            let host = Host::connect();
            let server = server(&["-b", "any"]).on(&host).listen();
            for target in ["192.0.2.255:9999", "255.255.255.255:9999"] {
                let client = || netkit(["udp-client", "--interface", "near", target, "x"]);
                client()
                    .stderr(format!(
                        "netkit: could not send to {target}: permission denied (a broadcast \
                         address takes --broadcast)\n"
                    ))
                    .code(2)
                    .run();
                client().arg("--broadcast").stdout("Hello, x!\n").run();
            }
            assert_eq!(sources(server).len(), 2);
        });
    }
}

/// Addresses that mean something only together with an interface.
mod link_local {
    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn servers_are_reached_by_tcp_and_by_udp_from_either_host() {
        in_namespace(|| {
            let host = Host::connect();
            let here = |program: Program| program;
            let there = |program: Program| program.on(&host);
            is_reached((here, "near", "fe80::1"), (there, "far", "fe80::2"));
            is_reached((there, "far", "fe80::2"), (here, "near", "fe80::1"));
        });
    }

    /// A server from a client; each where its function puts it, which has this interface and
    /// address there.
    fn is_reached(
        (serve, interface, ip): (impl Fn(Program) -> Program, &str, &str),
        (ask, zone, source): (impl Fn(Program) -> Program, &str, &str),
    ) {
        let bind = format!("{ip}%{interface}");
        let target = |server: &Server| format!("[{ip}%{zone}]:{}", server.port());

        for options in [&[][..], &["--source", source]] {
            let server = serve(tcp_server(["-b", &bind])).listen();
            let client = netkit(["tcp-client", "--send", "exit", &target(&server)]);
            ask(client.args(options)).stdout("Welcome!").run();
            let came = format!("Accept new connection from [{source}%{{N}}]:{{N}}...");
            server.wait_for_line(&came);

            let server = serve(udp_server(["-b", &bind])).listen();
            let client = netkit(["udp-client", &target(&server), "x"]);
            ask(client.args(options)).stdout("Hello, x!\n").run();
            server.wait_for_line(&format!("Received from [{source}%{{N}}]:{{N}}."));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_port_below_1024_is_for_root() {
    in_namespace(|| {
        netkit(["tcp-server", "-p", "80"])
            .through("exec setpriv --bounding-set=-net_bind_service --inh-caps=-all \"$0\" \"$@\"")
            .stderr(
                "netkit: could not listen on 127.0.0.1:80: permission denied \
                 (ports below 1024 are for root)\n",
            )
            .code(2)
            .run();
    });
}
