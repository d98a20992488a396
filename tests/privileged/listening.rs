//! Which addresses a TCP server may listen on, and a server that may start no threads.

use std::net::SocketAddr;

use crate::harness::namespace::{add_address, in_namespace};
use crate::harness::{Connection, netkit, netkit_path, program, tcp_server, temporary_folder};

#[test]
#[ignore = "needs root"]
fn any_with_a_family_listens_on_that_family_only() {
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
fn any_listens_on_both_families_and_warns() {
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
fn one_host_gets_three_quarters_of_the_connections_and_loopback_all() {
    in_namespace(|| {
        add_address("192.0.2.1/32");
        add_address("2001:db8::1/128");
        for (ip, host) in [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::/64")] {
            let server = tcp_server(["--bind", "any", "-m", "5"]).listen();
            let address = SocketAddr::new(ip.parse().unwrap(), server.port());
            let _open = [(); 3].map(|()| {
                let mut client = Connection::to(address);
                client.expect("Welcome!");
                client
            });
            Connection::rejected_by(address);
            server.wait_for_line(&format!(
                "netkit: refused {{*}}: 3 connections are open from {host} \
                 (--max-connections-per-ip 3)"
            ));
            let _loopback = [(); 2].map(|()| {
                let mut client = server.connect();
                client.expect("Welcome!");
                client
            });
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_server_warns_about_an_address_that_others_can_reach() {
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
fn without_room_for_a_thread_connections_wait_and_all_are_served() {
    in_namespace(|| {
        // A new user, so that no other threads count. It can run the copy in this folder.
        let folder = temporary_folder();
        let copy = folder.path().join("netkit");
        std::fs::copy(netkit_path(), &copy).unwrap();
        let server = program(copy, ["tcp-server", "-p", "0"])
            .through(
                "exec setpriv --reuid=48123 --regid=48123 --clear-groups \
                 bash -c 'ulimit -u 4; exec \"$0\" \"$@\"' \"$0\" \"$@\"",
            )
            .any_stderr()
            .listen();
        let clients = [(); 6].map(|()| server.connect());
        server.wait_for_line("netkit: could not start a thread: {*}; new connections have to wait");
        // The end of one makes room for the next.
        for mut client in clients {
            client.expect("Welcome!");
        }
        server.wait_for_lines("Connection from {*} closed.", 6);
    });
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

#[test]
#[ignore = "needs root"]
fn of_a_name_those_addresses_are_bound_that_exist() {
    in_namespace(|| {
        // docker's default: the hosts file knows ::1, and IPv6 is off.
        let folder = temporary_folder();
        let hosts = folder.path().join("hosts");
        std::fs::write(
            &hosts,
            "::1 localhost six\n127.0.0.1 localhost\n192.0.2.1 elsewhere\n",
        )
        .unwrap();
        program(
            "sh",
            ["-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"],
        )
        .run();
        for (words, address) in [
            (["tcp-server", "-p", "0", "-b", "localhost"], "127.0.0.1"),
            (["udp-server", "-p", "0", "-b", "localhost"], "127.0.0.1"),
            (
                [
                    "tcp-server",
                    "--port=0",
                    "--bind=127.0.0.1",
                    "-b",
                    "localhost",
                ],
                "127.0.0.1",
            ),
        ] {
            let server = netkit(words)
                .with_file(&hosts, "/etc/hosts")
                .any_stderr()
                .listen();
            assert_eq!(server.address(), format!("{address}:{}", server.port()));
        }
        for host in ["six", "::1", "elsewhere", "192.0.2.1"] {
            netkit(["tcp-server", "-p", "0", "-b", "127.0.0.1", "-b", host])
                .with_file(&hosts, "/etc/hosts")
                .stderr(
                    "netkit: could not listen on {*}: cannot assign requested address \
                     (it is not an address of this machine)\n",
                )
                .code(2)
                .run();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn without_etc_services_the_error_says_so() {
    netkit(["tcp-client", "127.0.0.1:http"])
        .through("exec unshare --mount sh -c 'mount -t tmpfs none /etc && exec \"$0\" \"$@\"' \"$0\" \"$@\"")
        .stderr(
            "netkit: 'http' is not a number, and could not be looked up in /etc/services: \
             no such file or directory; see 'netkit tcp-client -h'\n",
        )
        .code(2)
        .run();
}
