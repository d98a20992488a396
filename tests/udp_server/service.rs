//! What each service answers.

use super::{ask, ask_from, is_wrong_usage};
use crate::harness::datagrams::{address, expect_nothing, send};
use crate::harness::{mailbox, netkit, peer, tcp_server, udp_server};

/// A datagram that has been greeted `depth` times.
fn greeting(depth: usize) -> Vec<u8> {
    let mut payload = b"x".to_vec();
    for _ in 0..depth {
        payload = [b"Hello, ", payload.as_slice(), b"!"].concat();
    }
    payload
}

#[test]
fn a_datagram_is_greeted_and_logged() {
    let server = udp_server([]);
    let client = mailbox();
    let server = server
        .stderr(format!(
            "Listening on 127.0.0.1:{{N}}\n\
             Bind UDP on 127.0.0.1:{{N}}...\n\
             Received from {0}.\nReceived from {0}.\nReceived from {0}.\n",
            address(&client)
        ))
        .listen();
    assert_eq!(ask_from(&client, &server, "Michael"), b"Hello, Michael!");
    assert_eq!(ask_from(&client, &server, ""), b"Hello, !");
    let binary = b"\0\xff\n\x1b";
    let answer = [b"Hello, ", binary.as_slice(), b"!"].concat();
    assert_eq!(ask_from(&client, &server, binary), answer);
    server.stop();
}

#[test]
fn echo_sends_back_what_it_gets() {
    let server = udp_server(["--service", "echo"]).listen();
    assert_eq!(ask(&server, "Michael"), b"Michael");
    assert_eq!(ask(&server, ""), b"");
    let largest = vec![b'x'; 65_507];
    assert!(ask(&server, &largest) == largest);
}

#[test]
fn discard_answers_nothing() {
    let client = mailbox();
    let server = udp_server(["--service", "discard"])
        .stderr(format!(
            "Listening on 127.0.0.1:{{N}}\n\
             Bind UDP on 127.0.0.1:{{N}}...\n\
             Received from {}.\n",
            address(&client)
        ))
        .listen();
    send(&client, "Michael", server.address().parse().unwrap());
    server.wait_for_line("Received from {*}");
    server.stop();
    expect_nothing(&client);
}

#[test]
fn an_unknown_service_is_refused_with_the_known_ones() {
    netkit(["udp-server", "-p", "0", "--service", "chargen"])
        .stderr(
            "netkit: 'chargen' is unknown (--service); there are hello, echo, discard, stdio; \
             see 'netkit udp-server -h'\n",
        )
        .code(2)
        .run();
}

#[test]
fn datagrams_are_received_whole_and_one_too_large_to_greet_is_logged() {
    let client = mailbox();
    let source = address(&client);
    let server = udp_server([])
        .stderr(format!(
            "Listening on 127.0.0.1:{{N}}\n\
             Bind UDP on 127.0.0.1:{{N}}...\n\
             Received from {source}.\n\
             Received from {source}.\n\
             netkit: no answer to a datagram from {source}: the answer does not fit into a \
             datagram\n\
             Received from {source}.\n\
             Received from {source}.\n\
             netkit: no answer to 2 datagrams in all: the answer does not fit into a datagram\n"
        ))
        .listen();
    let answer = ask_from(&client, &server, vec![b'x'; 65_499]);
    assert_eq!(answer.len(), 65_507);
    let target = server.address().parse().unwrap();
    send(&client, vec![b'x'; 65_500], target);
    send(&client, vec![b'x'; 65_507], target);
    assert_eq!(ask_from(&client, &server, "x"), b"Hello, x!");
    server.stop();
}

#[test]
fn a_greeting_eight_deep_is_not_answered_and_that_is_logged_once() {
    let client = mailbox();
    let source = address(&client);
    let server = udp_server([])
        .stderr(format!(
            "Listening on 127.0.0.1:{{N}}\n\
             Bind UDP on 127.0.0.1:{{N}}...\n\
             netkit: no answer to a datagram from {source}: it is a greeting of a greeting, 8 \
             deep: two servers answering each other\n\
             Received from {source}.\n\
             netkit: no answer to 3 datagrams in all: it is a greeting of a greeting, 8 deep: \
             two servers answering each other\n"
        ))
        .listen();
    let target = server.address().parse().unwrap();
    for depth in [8, 9, 50] {
        send(&client, greeting(depth), target);
    }
    assert_eq!(ask_from(&client, &server, greeting(7)), greeting(8));
    server.stop();
}

#[test]
fn each_of_many_quick_datagrams_is_answered() {
    for service in ["hello", "echo"] {
        let client = mailbox();
        let server = udp_server(["--service", service]).listen();
        for number in 0..2000 {
            let payload = number.to_string();
            let answer = match service {
                "hello" => format!("Hello, {payload}!"),
                _ => payload.clone(),
            };
            assert_eq!(ask_from(&client, &server, payload), answer.as_bytes());
        }
        server.stop();
    }
}

#[test]
fn a_rate_limit_is_refused_for_a_service_that_never_answers() {
    is_wrong_usage(
        "--service discard --rate-limit 5",
        "--rate-limit needs --service hello, --service echo, -e or --sh-exec",
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_kernel_without_memory_for_poll_ends_no_server() {
    if peer("strace", []).is_none() {
        return;
    }
    // The first waits of each thread fail.
    let fails = "exec strace -f -o /dev/null -e trace='?poll,?ppoll' \
                 -e inject='?poll,?ppoll:error=ENOMEM:when=1..3' \"$0\" \"$@\"";
    let server = udp_server([]).through(fails).listen();
    assert_eq!(ask(&server, "Michael"), b"Hello, Michael!");
    let server = tcp_server(["--service", "stdio"]).through(fails).listen();
    server.connect().send("hi");
    server.wait_for_line("Connection from {*} closed.");
}
