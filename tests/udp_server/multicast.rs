//! `--join`: multicast groups.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use socket2::SockRef;

use super::is_refused;
use crate::harness::datagrams::{expect_nothing, receive, send, target};
use crate::harness::{mailbox, netkit, udp_server};

/// A socket that sends to groups over the loopback interface.
fn sender() -> UdpSocket {
    let sender = mailbox();
    SockRef::from(&sender)
        .set_multicast_if_v4(&Ipv4Addr::LOCALHOST)
        .unwrap();
    sender
}

#[test]
fn several_servers_of_a_machine_join_a_group_on_one_port() {
    // The server that needs the port on all addresses comes first.
    let other = udp_server(["-b", "any", "--join", "239.9.9.9%lo"]).listen();
    let port = other.port();
    let [first, second] = [(); 2].map(|()| {
        netkit(["udp-server", "--join", "239.1.2.3%lo", "-p"])
            .arg(port.to_string())
            .any_stderr()
            .listen()
    });
    let sender = sender();
    send(&sender, "x", SocketAddr::new([239, 1, 2, 3].into(), port));
    for _ in 0..2 {
        assert_eq!(receive(&sender).0, b"Hello, x!");
    }
    for server in [first, second] {
        let log = server.stop().stderr;
        assert_eq!(log.matches("Received from").count(), 1, "{log}");
    }
    // Only this server receives what is not sent to a group.
    send(&sender, "y", SocketAddr::new([127, 0, 0, 1].into(), port));
    assert_eq!(receive(&sender).0, b"Hello, y!");
    let log = other.stop().stderr;
    assert_eq!(log.matches("Received from").count(), 1, "{log}");
}

#[test]
fn a_group_gets_a_socket_of_its_own_beside_a_given_address() {
    let arguments = [
        "-b",
        "127.0.0.1",
        "--join",
        "239.1.2.3%lo",
        "--join",
        "239.1.2.3%lo",
    ];
    let server = udp_server(arguments).listen();
    let addresses = server.addresses(2);
    let group = SocketAddr::new([239, 1, 2, 3].into(), server.port());
    assert_eq!(addresses, [target(&server), group]);
    let sender = sender();
    for target in addresses {
        send(&sender, "x", target);
        assert_eq!(receive(&sender).0, b"Hello, x!");
    }
    server.wait_for_line("netkit: every host that can reach 239.1.2.3 can send to it");
    server.stop();
    expect_nothing(&sender);
}

#[test]
fn a_group_that_cannot_be_joined_is_an_error() {
    let see = "see 'netkit udp-server -h'";
    is_refused(
        "--join 10.0.0.1",
        &format!(
            "'10.0.0.1' is not a \
             multicast group (--join); write one of 224.0.0.0/4 or ff00::/8, as in 239.1.2.3, \
             239.1.2.3%eth0 or ff02::123%eth0; {see}"
        ),
    );
    is_refused(
        "--join ff02::123",
        &format!(
            "'ff02::123' is a \
             group of one link (--join); write the interface too: ff02::123%eth0; {see}"
        ),
    );
    is_refused(
        "--join 239.1.2.3%nowhere",
        "could not join 239.1.2.3%nowhere: this machine has no interface 'nowhere'",
    );
}
