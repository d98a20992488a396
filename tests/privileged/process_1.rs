//! A client that is process 1 of a container. The kernel gives such a process no signal that it does
//! not catch.

use rustix::process::{Signal, kill_process};

use crate::harness::datagrams::mailbox;
use crate::harness::{Peer, Process, Program, event, netkit};

impl Program {
    /// Runs the program as process 1.
    fn being_process_1(self) -> Self {
        self.through("exec unshare --pid --fork --kill-child \"$0\" \"$@\"")
    }
}

/// Sends `signal` to process 1, which is the child of unshare(1).
fn signal_process_1(unshare: &Process, signal: Signal) {
    kill_process(unshare.children()[0], signal).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_session_ends_by_a_signal() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (connected, is_connected) = event();
        let peer = Peer::listen(move |mut connection| {
            connected.happen();
            connection.drain();
        });
        let client = netkit(["tcp-client", peer.address()]);
        let client = client.stdin_open().being_process_1().code(code).start();
        is_connected.wait();
        signal_process_1(&client, signal);
        client.finish();
    }
}

#[test]
#[ignore = "needs root"]
fn datagrams_and_pings_end_by_a_signal() {
    for (words, signal, code) in [
        (&["--no-wait"][..], Signal::INT, 130),
        (&["--relay"], Signal::TERM, 143),
        (&["--json"], Signal::INT, 130),
        (&["--json"], Signal::TERM, 143),
        (&["-i", "60"], Signal::TERM, 143),
    ] {
        let socket = mailbox();
        let address = socket.local_addr().unwrap().to_string();
        let client = netkit(["udp-client"]).args(words).arg(&address);
        let client = client.stdin_open().any_stdout().any_stderr();
        let client = client.being_process_1().code(code).start();
        client.send("x\n");
        socket.recv(&mut [0; 100]).unwrap();
        signal_process_1(&client, signal);
        client.finish();
    }
}

#[test]
#[ignore = "needs root"]
fn a_server_drains_and_ends_at_once_by_a_second_signal() {
    let server = netkit(["tcp-server", "-p", "0", "--drain-timeout", "1h"]);
    let server = server.any_stderr().being_process_1().code(143).listen();
    let _client = server.connect();
    server.wait_for_line("Accept new connection{*}");
    signal_process_1(&server, Signal::TERM);
    server.wait_for_line("Waiting for 1 {*}");
    signal_process_1(&server, Signal::TERM);
    server.finish();
}
