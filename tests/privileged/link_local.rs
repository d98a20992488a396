//! Link-local addresses, which need an interface.

use crate::harness::namespace::{Host, in_namespace};
use crate::harness::{Program, Server, netkit, tcp_server, udp_server};

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

/// A client reaches a server. `serve` and `ask` put them on their hosts, where each has this
/// interface and address.
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

#[test]
#[ignore = "needs root"]
fn a_program_is_told_the_zone_of_its_peer() {
    const FACTS: &str = "echo $NETKIT_REMOTE_ADDR $NCAT_LOCAL_ADDR";
    in_namespace(|| {
        let host = Host::connect();
        let options = ["-b", "fe80::1%near", "--sh-exec", FACTS];
        let servers = [
            (tcp_server(options).listen(), "tcp-client"),
            (udp_server(options).listen(), "udp-client"),
        ];
        for (server, client) in servers {
            let target = format!("[fe80::1%far]:{}", server.port());
            let text = if client == "udp-client" { "\n" } else { "" };
            let client = match client {
                "udp-client" => netkit([client, &target, "x"]),
                _ => netkit([client, &target]),
            };
            client
                .on(&host)
                .stdout(format!("fe80::2%{{N}} fe80::1%{{N}}\n{text}"))
                .run();
        }
    });
}
