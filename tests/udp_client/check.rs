//! `-z`: whether a port is open.

use std::net::UdpSocket;

use crate::harness::datagrams::{address, expect, expect_nothing};
use crate::harness::{DEADLINE, closed_port, mailbox, netkit, udp_server};

#[test]
fn a_port_that_answers_is_open() {
    let server = udp_server([]).listen();
    let (target, port) = (server.address(), server.port());
    netkit(["udp-client", "-z", &target])
        .stdout(format!("{target} open, {{N}} ms\n"))
        .run();
    netkit(["udp-client", "-z", &format!(":{port}")])
        .stdout(format!("localhost:{port} (127.0.0.1) open, {{N}} ms\n"))
        .run();
}

#[test]
fn a_port_that_is_unreachable_is_closed() {
    let closed = closed_port();
    let target = address(&closed);
    let client = netkit(["udp-client", "-z", "-W", "1h", &target])
        .stdout(format!("{target} closed, {{N}} ms\n"))
        .code(1)
        .run();
    assert!(client.took < DEADLINE / 2);
}

#[test]
fn a_closed_port_of_several_addresses_is_told_of_the_first() {
    let closed = closed_port();
    let port = closed.local_addr().unwrap().port();
    netkit(["udp-client", "-z", &format!(":{port}")])
        .stdout(format!("localhost:{port} (127.0.0.1) closed, {{N}} ms\n"))
        .code(1)
        .run();
}

#[test]
fn a_silent_port_is_open_or_filtered() {
    let silent = mailbox();
    let target = address(&silent);
    netkit(["udp-client", "-z", "-W", "0.2", &target])
        .stdout(format!("{target} open|filtered\n"))
        .run();
    expect(&silent, "");
    expect_nothing(&silent);
}

#[test]
fn json_prints_the_result_as_an_event() {
    let closed = closed_port();
    let port = closed.local_addr().unwrap().port();
    netkit(["udp-client", "-z", "--json", &address(&closed)])
        .stdout(format!(
            "{{\"event\":\"start\",\"unix_s\":{{N}},\"v\":1,\"target\":\"127.0.0.1:{port}\",\"ports\":1}}\n\
             {{\"event\":\"closed\",\"unix_s\":{{N}},\"target\":\"127.0.0.1:{port}\",\"address\":\"127.0.0.1\",\
             \"port\":{port},\"rtt_ms\":{{N}},\"error\":\"could not get an answer from 127.0.0.1:{port}: \
             connection refused\",\"exit\":1}}\n\
             {{\"event\":\"summary\",\"unix_s\":{{N}},\"open\":0,\"closed\":1,\"no_answer\":0,\"failed\":0,\
             \"time_ms\":{{N}}}}\n"
        ))
        .code(1)
        .run();
}

#[test]
fn several_ports_are_asked_side_by_side() {
    let server = udp_server([]).listen();
    let closed = closed_port();
    let silent = [(); 3].map(|()| mailbox());
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let [first, second, third] = silent.each_ref().map(port);
    let ports = format!("{first},{},{second},{}", server.port(), port(&closed));
    let also = format!("127.0.0.1:{third}");
    let target = format!("127.0.0.1:{ports}");
    netkit(["udp-client", "-z", "-W", "2", &target, &also])
        .stdout(format!(
            "127.0.0.1:{first} open|filtered\n\
             127.0.0.1:{} open, {{N}} ms\n\
             127.0.0.1:{second} open|filtered\n\
             127.0.0.1:{third} open|filtered\n",
            server.port()
        ))
        .stderr("1 open, 1 closed, 3 without an answer ({N} s)\n")
        .code(1)
        .run();
}
