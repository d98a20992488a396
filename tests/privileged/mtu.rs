//! A path whose second wire carries less than the first.

use crate::harness::namespace::{Host, drop_too_large, in_namespace};
use crate::harness::{netkit, udp_server};

const TARGETS: [(&str, usize); 2] = [("198.51.100.2", 28), ("2001:db8:1::2", 48)];

/// Finds the path MTU of both families, and prints each try.
#[track_caller]
fn find(far: &Host, mtu: u16) {
    let next = far.route_to_next(mtu);
    for (ip, headers) in TARGETS {
        let server = udp_server(["--bind", ip]).on(&next).any_stderr().listen();
        let payload = usize::from(mtu) - headers;
        netkit(["udp-client", "--mtu", "-W", "0.2", &server.address()])
            .stdout(format!(
                "path MTU to {ip} is {mtu} ({payload} bytes of UDP); the interface has 1500\n"
            ))
            .run();
    }
}

#[test]
#[ignore = "needs root"]
fn a_router_that_tells_the_size_is_heard() {
    in_namespace(|| find(&Host::connect(), 1400));
}

#[test]
#[ignore = "needs root"]
fn the_size_is_found_where_routers_say_nothing() {
    in_namespace(|| {
        let far = Host::connect();
        drop_too_large();
        find(&far, 1400);
    });
}

/// A veth(4) drops what is larger than its other end and a VLAN tag (4 bytes).
#[test]
#[ignore = "needs root"]
fn the_size_is_found_although_the_other_end_of_the_wire_drops_more() {
    in_namespace(|| {
        let far = Host::connect();
        crate::harness::namespace::ip(&format!("-n {} link set far mtu 1296", far.name()));
        let server = udp_server(["--bind", "192.0.2.2"])
            .on(&far)
            .any_stderr()
            .listen();
        netkit(["udp-client", "--mtu", "-W", "0.2", &server.address()])
            .stdout("path MTU to 192.0.2.2 is 1300 (1272 bytes of UDP); the interface has 1500\n")
            .run();
    });
}

#[test]
#[ignore = "needs root"]
fn a_whole_probe_that_is_too_large_is_refused_in_the_words_of_ping() {
    in_namespace(|| {
        let far = Host::connect();
        let next = far.route_to_next(1400);
        for (ip, words) in [
            (
                TARGETS[0].0,
                "From 198.51.100.2 udp_seq=1 Frag needed and DF set (mtu = 1400)",
            ),
            (
                TARGETS[1].0,
                "From 2001:db8:1::2 udp_seq=1 Packet too big: mtu=1400",
            ),
        ] {
            let server = udp_server(["--bind", ip]).on(&next).any_stderr().listen();
            let address = server.address();
            // Twice: the kernel has learned the size by then.
            for _ in 0..2 {
                let client = netkit(["udp-client", "-c", "2", "-i", "0.1", "-s", "1400", &address]);
                let client = client.any_stdout().any_code().run();
                let printed = String::from_utf8(client.stdout).unwrap();
                assert!(printed.contains("udp_seq=2 ttl="), "{printed}");
                let whole = [
                    "udp-client",
                    "-c",
                    "1",
                    "-s",
                    "1400",
                    "--dont-fragment",
                    &address,
                ];
                let client = netkit(whole).any_stdout().code(1).run();
                let printed = String::from_utf8(client.stdout).unwrap();
                assert_eq!(printed.lines().nth(1), Some(words), "{printed}");
            }
            let size = [
                "udp-client",
                "-c",
                "1",
                "-s",
                "1473",
                "--dont-fragment",
                &address,
            ];
            netkit(size)
                .any_stdout()
                .stderr(format!(
                    "netkit: could not send probe 1 to {address}: message too long (--dont-fragment)\n"
                ))
                .code(2)
                .run();
        }
    });
}
