//! The log, as JSON and on a closed standard error.

use rustix::process::Signal;

use crate::harness::datagrams::{address, send};
use crate::harness::{mailbox, netkit, udp_server};

fn event(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_refusal_is_an_event_and_so_is_the_count_of_refusals() {
    let client = mailbox();
    let arguments = ["--log-format", "json", "--deny", "0.0.0.0/0"];
    let server = udp_server(arguments).start();
    let line = event(&server.wait_for_line("{*}Listening on{*}"));
    let target = line["address"].as_str().unwrap().parse().unwrap();
    send(&client, "a", target);
    send(&client, "b", target);
    let line = event(&server.wait_for_line("{*}no answer to a datagram{*}"));
    assert_eq!(line["event"], "refuse");
    assert_eq!(line["peer"], address(&client));
    assert_eq!(line["reason"], "the source is not allowed");
    assert_eq!(line["level"], "WARN");
    server.signal(Signal::TERM);
    let log = server.finish().stderr;
    let line = event(log.lines().last().unwrap());
    assert_eq!(line["event"], "refuse");
    assert_eq!(line["count"], 2);
}

#[test]
fn the_start_and_the_end_of_a_program_are_events() {
    let client = mailbox();
    let arguments = ["--log-format", "json", "--sh-exec", "read x"];
    let server = udp_server(arguments).start();
    let line = event(&server.wait_for_line("{*}Listening on{*}"));
    let target = line["address"].as_str().unwrap().parse().unwrap();
    send(&client, "a\n", target);
    let start = event(&server.wait_for_line("{*}Started{*}"));
    let end = event(&server.wait_for_line("{*}Ended{*}"));
    for (line, name) in [(&start, "start"), (&end, "end")] {
        assert_eq!(line["event"], name);
        assert_eq!(line["peer"], address(&client));
        assert_eq!(line["pid"], start["pid"]);
    }
    assert_eq!(end["reason"], "it ended");
    assert!(end["duration_ms"].is_u64());
}

#[test]
fn a_server_answers_with_standard_error_closed() {
    let mut server = udp_server(["--print-port"])
        .through("exec \"$0\" \"$@\" 2>&-")
        .start();
    let port = server.receive_line("{N}");
    netkit(["udp-client", &format!("127.0.0.1:{port}"), "a"])
        .stdout("Hello, a!\n")
        .run();
    server.signal(Signal::TERM);
    server.finish();
}

#[test]
fn json_logs_one_object_a_line() {
    let client = mailbox();
    let server = udp_server(["--log-format", "json"]).start();
    let line = server.wait_for_line("{*}Listening on {*}");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let target = line["address"].as_str().unwrap().parse().unwrap();
    send(&client, "four", target);
    let line = server.wait_for_line("{*}Received from {*}");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["event"], "datagram");
    assert_eq!(line["peer"], address(&client));
    assert_eq!(line["bytes"], 4);
    assert_eq!(line["level"], "INFO");
}
