//! Datagrams to a multicast group, or to all hosts of a network.

use crate::harness::namespace::{Host, in_namespace};
use crate::harness::{Program, Server, netkit};

/// The port of the servers. It is free, as the network is new.
const PORT: &str = "9999";

/// Groups of both families: how a server joins them, and where a client sends to.
const GROUPS: [(&str, &str); 3] = [
    ("239.1.2.3", "239.1.2.3:9999"),
    ("ff15::123", "[ff15::123]:9999"),
    ("ff02::123", "[ff02::123%near]:9999"),
];

fn server(options: &[&str]) -> Program {
    netkit(["udp-server", "-p", PORT].iter().chain(options)).any_stderr()
}

/// Sends over the wire, not over the loopback interface.
fn client(options: &[&str]) -> Program {
    let arguments = ["udp-client", "--multicast-interface", "near"];
    netkit(arguments.iter().chain(options))
}

/// The sources of the datagrams that `server` has received.
fn sources(server: Server) -> Vec<String> {
    let log = server.stop().stderr;
    let sources = log
        .lines()
        .filter_map(|line| line.strip_prefix("Received from "));
    sources.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root"]
fn only_members_of_a_group_receive_and_answer() {
    for (group, target) in GROUPS {
        in_namespace(move || {
            let host = Host::connect();
            let join = format!("{group}%far");
            // All use one port, but the group's datagrams reach only those who joined.
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
fn a_ping_shows_every_member_that_answers() {
    in_namespace(|| {
        let host = Host::connect();
        let member = || server(&["--join", "239.1.2.3%far"]).on(&host).listen();
        let _members = [member(), member()];
        let mut client = client(&["-i", "1h", "239.1.2.3:9999"]).start();
        client.receive_line("PING 239.1.2.3:9999 (239.1.2.3) 56(84) bytes of data.");
        client.receive_line("64 bytes from 192.0.2.2:9999: udp_seq=1 ttl={N} time={N} ms");
        client.receive_line("64 bytes from 192.0.2.2:9999: udp_seq=1 ttl={N} time={N} ms (DUP!)");
    });
}

/// One member is on the sender's host, one on the other. The source port tells the sends apart.
#[test]
#[ignore = "needs root"]
fn the_sender_limits_how_far_a_datagram_goes() {
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
fn a_broadcast_address_needs_the_broadcast_option() {
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
            let answer = "192.0.2.2:9999\tHello, x!\n";
            client().arg("--broadcast").stdout(answer).run();
        }
        assert_eq!(sources(server).len(), 2);
    });
}
