//! Look-ups that a silent name server does not answer.

use std::net::UdpSocket;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::namespace::in_namespace;
use crate::harness::{DEADLINE, Folder, Program, netkit, temporary_folder};

/// The file of a resolver whose only name server does not answer.
struct Resolver {
    server: UdpSocket,
    folder: Folder,
}

impl Resolver {
    /// Call it within [`in_namespace`].
    fn silent(options: &str) -> Self {
        let server = UdpSocket::bind("127.0.0.1:53").unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        let folder = temporary_folder();
        let lines = format!("nameserver 127.0.0.1\n{options}\n");
        std::fs::write(folder.path().join("resolv.conf"), lines).unwrap();
        Self { server, folder }
    }

    /// A netkit that asks this name server.
    fn program(&self, words: &str) -> Program {
        let file = self.folder.path().join("resolv.conf");
        netkit(words.split(' ')).with_file(&file, "/etc/resolv.conf")
    }

    /// Waits until a program asks.
    fn wait_for_question(&self) {
        self.server.recv_from(&mut [0; 512]).unwrap();
    }

    fn forget_questions(&self) {
        self.server.set_nonblocking(true).unwrap();
        while self.server.recv_from(&mut [0; 512]).is_ok() {}
        self.server.set_nonblocking(false).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn the_time_limit_of_a_client_includes_resolving() {
    in_namespace(|| {
        let resolver = Resolver::silent("");
        for command in [
            "tcp-client -w 0.3 name.test:9999",
            "tcp-client --deadline 0.3 name.test:9999",
            "tcp-client -z -w 0.3 name.test:9999",
            "tcp-client -z -c 1 -w 0.3 name.test:9999",
            "udp-client -w 0.3 -c 1 name.test:9999",
        ] {
            resolver
                .program(command)
                .stderr("netkit: could not resolve name.test: no answer within 300ms\n")
                .code(4)
                .run();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn no_look_up_takes_longer_than_nine_seconds() {
    in_namespace(|| {
        let resolver = Resolver::silent("");
        let programs = [
            "tcp-client name.test:9999",
            "tcp-server -p 0 -b name.test",
            "tcp-server -p 0 --deny name.test",
            "udp-client name.test:9999 x",
            "udp-client --relay name.test:9999",
            "udp-server -p 0 -b name.test",
        ]
        .map(|command| resolver.program(command).any_stderr().code(4).start());
        for program in programs {
            let end = program.finish();
            let message = "could not resolve name.test: no answer within 9s";
            assert!(end.stderr.contains(message), "{end:?}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_resolver_that_gives_up_by_itself_is_exit_code_3() {
    in_namespace(|| {
        let resolver = Resolver::silent("options timeout:1 attempts:1");
        let program = resolver.program("udp-client name.test:9999 x");
        program
            .stderr("netkit: could not resolve name.test: {*}\n")
            .code(3)
            .run();
    });
}

#[test]
#[ignore = "needs root"]
fn a_signal_ends_a_look_up() {
    in_namespace(|| {
        let resolver = Resolver::silent("");
        for command in [
            "tcp-client name.test:9999",
            "tcp-client -z -c 1 name.test:9999",
            "tcp-server -p 0 -b name.test",
            "udp-client --json name.test:9999 x",
            "udp-client -c 1 name.test:9999",
            "udp-server -p 0 -b name.test",
        ] {
            for signal in [Signal::INT, Signal::TERM] {
                let program = resolver.program(command).killed_by(signal).start();
                resolver.wait_for_question();
                program.signal(signal);
                let took = program.finish().took;
                assert!(took < Duration::from_secs(9), "{command}");
                // A second question of the last program is not one of the next.
                resolver.forget_questions();
            }
        }
    });
}

#[test]
#[ignore = "needs root"]
fn an_address_without_a_host_is_not_looked_up() {
    in_namespace(|| {
        let resolver = Resolver::silent("");
        for command in ["tcp-client -n :1", "tcp-client :1"] {
            let hosts = resolver.folder.path().join("hosts");
            std::fs::write(&hosts, "").unwrap();
            resolver
                .program(command)
                .with_file(&hosts, "/etc/hosts")
                .stderr(
                    "netkit: could not connect to localhost:1: 127.0.0.1, ::1 connection refused\n",
                )
                .code(1)
                .run();
        }
    });
}
