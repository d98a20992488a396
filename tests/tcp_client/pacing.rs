//! `--lockstep` and `--line-delay`: input is sent piece by piece.

use std::time::Duration;

use crate::harness::{Peer, event, netkit, tcp_server};

#[test]
fn lockstep_greets_every_name_in_its_turn() {
    let server = tcp_server([]).listen();
    let texts = ["Michael", "Tracy", "exit"].map(|text| format!("--send={text}"));
    netkit(["tcp-client", "--lockstep=1s"])
        .args(texts)
        .arg(server.address())
        .stdout("Welcome!Hello, Michael!Hello, Tracy!")
        .run();
}

#[test]
fn lockstep_sends_nothing_before_the_answer_is_over() {
    let peer = Peer::listen(|mut connection| {
        // A greeting in two parts, each sooner than the silence that ends it.
        connection.send("Wel");
        connection.expect_nothing_for(Duration::from_millis(200));
        connection.send("come");
        connection.expect_nothing_for(Duration::from_secs(1));
        connection.expect("one\n");
        connection.expect_nothing_for(Duration::from_millis(600));
        connection.send("1");
        connection.expect("two\n");
        connection.expect_eof();
    });
    netkit(["tcp-client", "--lockstep=2s", peer.address()])
        .stdin("one\ntwo\n")
        .stdout("Welcome1")
        .run();
}

#[test]
fn lockstep_without_a_greeting_begins_after_the_silence() {
    let peer = Peer::listen(|mut connection| {
        connection.expect_nothing_for(Duration::from_millis(200));
        connection.expect("a");
        connection.expect_eof();
    });
    netkit(["tcp-client", "--lockstep=2s", "--send", "a", peer.address()]).run();
}

#[test]
fn lockstep_sends_the_rest_once_the_peer_has_ended() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("a\n");
        connection.shutdown();
        connection.expect("b\nc");
        connection.expect_eof();
    });
    netkit(["tcp-client", "--lockstep=20ms", peer.address()])
        .stdin("a\nb\nc")
        .run();
}

#[test]
fn lockstep_sees_the_end_of_input_while_it_waits() {
    let (ended, has_ended) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.expect("a\n");
        ended.happen();
        // Its answer is not awaited: nothing more is to be sent.
        connection.expect_eof();
        connection.send("A");
    });
    let mut client = netkit(["tcp-client", "--lockstep=20ms", peer.address()])
        .stdin_open()
        .stdout("A")
        .start();
    client.send("a\n");
    has_ended.wait();
    client.close_input();
    client.finish();
}

#[test]
fn time_limits_end_a_wait_for_an_answer() {
    let limits = [
        ("--deadline=2", "gave up on {*} after 2s (--deadline)"),
        (
            "--idle-timeout=2",
            "gave up on {*}: no data for 2s (--idle-timeout)",
        ),
    ];
    // Side by side, as each takes two seconds.
    let running = limits.map(|(option, message)| {
        let peer = Peer::listen(|mut connection| {
            connection.expect("a");
            connection.drain();
        });
        let texts = ["--send=a", "--send=b", "--lockstep=20ms"];
        let client = netkit(["tcp-client", option, peer.address()])
            .args(texts)
            .stderr(format!("netkit: {message}\n"))
            .code(4);
        (client.start(), peer)
    });
    for (client, _peer) in running {
        client.finish();
    }
}

#[test]
fn line_delay_waits_after_every_line() {
    for input in [None, Some("--send=a\\nb\\n")] {
        let peer = Peer::listen(|mut connection| {
            connection.expect("a\r\nb\r\n");
            connection.expect_eof();
        });
        let client = netkit(["tcp-client", "-C", "--line-delay", "0.2", peer.address()]);
        let client = client.args(input).stdin("a\nb\n").run();
        assert!(client.took >= Duration::from_millis(400), "{client:?}");
    }
}

#[test]
fn paces_exclude_each_other_and_a_client_that_sends_nothing() {
    for (options, message) in [
        (
            ["--lockstep", "--line-delay=1"],
            "the argument '--lockstep[=<TIME>]' cannot be used with '--line-delay <TIME>'",
        ),
        (
            ["--lockstep", "--recv-only"],
            "the argument '--lockstep[=<TIME>]' cannot be used with '--recv-only'",
        ),
        (
            ["--get", "--line-delay=1"],
            "--line-delay does nothing with --get",
        ),
        (["-z", "--lockstep"], "--lockstep does nothing with -z"),
    ] {
        netkit(["tcp-client", ":9999"])
            .args(options)
            .stderr(format!("netkit: {message}; see 'netkit tcp-client -h'\n"))
            .code(2)
            .run();
    }
}
