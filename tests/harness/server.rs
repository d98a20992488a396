//! A netkit server that is ready.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use rustix::process::Signal;

use super::peer::Connection;
use super::program::{Finished, Process, Program, netkit};

/// A TCP server on a free port; `listen` starts it.
pub fn tcp_server<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Program {
    netkit(["tcp-server", "-p", "0"].into_iter().chain(arguments)).any_stderr()
}

/// A UDP server on a free port; `listen` starts it.
pub fn udp_server<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Program {
    netkit(["udp-server", "-p", "0"].into_iter().chain(arguments)).any_stderr()
}

/// A server that listens. Its log is checked only if `stderr` was called.
pub struct Server {
    process: Process,
    address: SocketAddr,
}

impl Program {
    /// Starts a server and waits until it logs that it listens.
    #[track_caller]
    pub fn listen(self) -> Server {
        let process = self.start();
        let address = listening(&process.wait_for_line("Listening on {*}"));
        Server { process, address }
    }
}

impl Server {
    /// `ADDRESS:PORT`; the first, if it listens on several.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits until it listens on `count` addresses.
    #[track_caller]
    pub fn addresses(&self, count: usize) -> Vec<SocketAddr> {
        let lines = self.wait_for_lines("Listening on {*}", count);
        lines.iter().map(|line| listening(line)).collect()
    }

    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::to(self.address)
    }

    /// `None`: the server has reset the connection at once.
    #[track_caller]
    pub fn connect_unless_reset(&self) -> Option<Connection> {
        Connection::unless_reset(self.address)
    }

    /// The server must reset a new connection.
    #[track_caller]
    pub fn expect_rejection(&self) {
        Connection::rejected_by(self.address);
    }

    /// Stops the server by SIGTERM and waits for its end.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        self.finish()
    }

    #[track_caller]
    pub fn finish(self) -> Finished {
        self.process.finish()
    }
}

fn listening(line: &str) -> SocketAddr {
    let address = line.strip_prefix("Listening on ").unwrap();
    address
        .parse()
        .unwrap_or_else(|_| panic!("{line:?} should end in ADDRESS:PORT"))
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
