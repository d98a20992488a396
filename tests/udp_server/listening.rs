//! Which addresses and ports a server listens on.

use crate::harness::{netkit, tcp_server, udp_server};

#[test]
fn print_port_prints_the_port() {
    let mut server = udp_server(["--print-port"]).start();
    let port = server.receive_line("{N}");
    server.expect_line(&format!("Listening on 127.0.0.1:{port}"));
}

#[test]
fn a_server_listens_on_all_given_addresses() {
    let server = udp_server(["-b", "127.0.0.1", "-b", "::1"]).listen();
    for address in server.addresses(2) {
        netkit(["udp-client", &address.to_string(), "a"])
            .stdout("Hello, a!\n")
            .run();
    }
    let logged = server.wait_for_lines("Bind UDP on {*}...", 2);
    assert!(logged[1].starts_with("Bind UDP on [::1]:"), "{logged:?}");
}

#[test]
fn without_an_address_a_server_listens_on_loopback_of_the_wanted_family() {
    for (option, ip) in [("-4", "127.0.0.1"), ("-6", "[::1]")] {
        for server in [udp_server([option]), tcp_server([option])] {
            let server = server.listen();
            assert_eq!(server.address(), format!("{ip}:{}", server.port()));
            server.stop();
        }
    }
}
