//! How input becomes datagrams, and how large they may be.

use crate::harness::datagrams::address;
use crate::harness::{mailbox, netkit, udp_server};

const TOO_LARGE: &str = "datagram 1, \"xxxxxxxxxxxxxxxx...\"";

#[test]
fn whole_sends_all_input_as_one_datagram() {
    let server = udp_server(["--service", "echo"]).listen();
    let ask = |input: &[u8]| {
        netkit(["udp-client", "--whole", &server.address()])
            .stdin(input)
            .stdout(input)
            .run();
    };
    ask(b"");
    ask(b"a\nb\n");
    ask(&vec![b'x'; 65_507]);
}

#[test]
fn chunk_cuts_input_by_size() {
    let server = udp_server([]).listen();
    netkit(["udp-client", "--chunk", "2", &server.address()])
        .stdin("a\nbcd")
        .stdout("Hello, a\n!\nHello, bc!\nHello, d!\n")
        .run();
}

#[test]
fn the_largest_datagram_over_ipv6_is_larger() {
    let server = udp_server(["-b", "::1", "--service", "echo"]).listen();
    let mut lines = vec![b'x'; 65_527];
    lines.push(b'\n');
    netkit(["udp-client", &server.address()])
        .stdin(&lines)
        .stdout(&lines)
        .run();
    lines.insert(0, b'x');
    netkit(["udp-client", &server.address()])
        .stdin(&lines)
        .stderr(format!(
            "netkit: could not send {TOO_LARGE} to {}: it has 65528 bytes, and a datagram \
             over IPv6 carries 65527 at most\n",
            server.address()
        ))
        .code(2)
        .run();
}

#[test]
fn a_line_that_is_too_large_is_an_error_and_the_others_are_sent() {
    let server = udp_server([]).listen();
    netkit(["udp-client", &server.address()])
        .stdin([vec![b'x'; 65_508].as_slice(), b"\nsmall"].concat())
        .stdout("Hello, small!\n")
        .stderr(format!(
            "netkit: could not send {TOO_LARGE} to {}: it has 65508 bytes, and a datagram \
             over IPv4 carries 65507 at most\n",
            server.address()
        ))
        .code(2)
        .run();
}

#[test]
fn a_line_that_is_too_large_takes_no_memory() {
    let server = mailbox();
    let target = address(&server);
    netkit(["udp-client", &target])
        .through("ulimit -v 100000; head -c 120000000 /dev/zero | tr '\\0' x | \"$0\" \"$@\"")
        .stderr(format!(
            "netkit: could not send {TOO_LARGE} to {target}: it has 120000000 bytes, and a \
             datagram over IPv4 carries 65507 at most\n"
        ))
        .code(2)
        .run();
}

#[test]
fn whole_is_refused_when_data_is_given() {
    netkit(["udp-client", "--whole", "127.0.0.1:9", "data"])
        .stderr(
            "netkit: --whole and --chunk cut standard input, which is not read when DATA or \
             --send is given; see 'netkit udp-client -h'\n",
        )
        .code(2)
        .run();
}

#[test]
fn a_chunk_must_fit_into_a_datagram() {
    netkit(["udp-client", "--chunk", "64k", "127.0.0.1:9"])
        .stderr(
            "netkit: '64k' is more than a \
             datagram carries: 65507 bytes over IPv4, 65527 over IPv6 (--chunk); \
             see 'netkit udp-client -h'\n",
        )
        .code(2)
        .run();
}
