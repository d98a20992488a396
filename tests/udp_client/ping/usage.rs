//! Options of a ping that do not fit together, or have no effect, are refused.

use super::ping;
use crate::harness::{netkit, udp_server};

#[test]
fn options_without_effect_are_refused() {
    for words in ["-D", "-O", "-A", "-f", "-s 100", "--max-loss 1"] {
        let option = words.split(' ').next().unwrap();
        netkit(
            ["udp-client", "127.0.0.1:9"]
                .into_iter()
                .chain(words.split(' ')),
        )
        .stderr(format!(
            "netkit: {option} needs --ping, -c or -i; see 'netkit udp-client -h'\n"
        ))
        .code(2)
        .run();
    }
    for words in [
        "-c 1 --retries 1",
        "-c 1 --no-wait",
        "-c 1 --raw",
        "-c 1 --whole",
        "-c 1 --chunk 1",
        "--ping -f -A",
        "--ping -f -D",
        "--ping -f -O",
        "-c 0",
        "-i 0",
        "-w 0 -c 1",
        "-c 1 --max-loss 101",
        "-c 1 -s 65528",
    ] {
        let client = netkit(
            ["udp-client", "127.0.0.1:9"]
                .into_iter()
                .chain(words.split(' ')),
        )
        .any_stderr()
        .code(2)
        .run();
        assert!(
            client.stderr.ends_with("see 'netkit udp-client -h'\n"),
            "{words}"
        );
    }
}

#[test]
fn a_probe_has_a_least_and_a_largest_size() {
    let server = udp_server(["--service", "echo"]).listen();
    for size in ["16", "65507"] {
        ping(&server.address(), ["-c", "1", "-s", size])
            .any_stdout()
            .run();
    }
    ping("127.0.0.1:9", ["-c", "1", "-s", "15"])
        .stderr(
            "netkit: '15' has no room for what tells \
             answers apart: that takes 16 bytes (--size); see 'netkit udp-client -h'\n",
        )
        .code(2)
        .run();
    ping("127.0.0.1:9", ["-c", "1", "-s", "65508"])
        .stderr(
            "netkit: could not send to 127.0.0.1:9: a probe of 65508 bytes is too large for a \
             datagram over IPv4, which carries 65507 at most\n",
        )
        .code(2)
        .run();
}

#[test]
fn a_count_is_a_whole_number() {
    for (count, reason) in [
        ("-1", "is not a whole number (--count); write 1, 2, 100"),
        ("0", "must be more than zero (--count)"),
        ("99999999999999999999", "is too large (--count)"),
    ] {
        ping("127.0.0.1:9", ["-c", count])
            .stderr(format!(
                "netkit: '{count}' {reason}; see 'netkit udp-client -h'\n"
            ))
            .code(2)
            .run();
    }
}

#[test]
fn a_ping_refuses_data() {
    ping("127.0.0.1:9", ["data"])
        .stderr(
            "netkit: could not send DATA: a ping, which -c and -i imply, sends probes of its \
             own; see 'netkit udp-client -h'\n",
        )
        .code(2)
        .run();
}
