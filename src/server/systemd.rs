//! Starting by systemd: the sockets that it passes (`sd_listen_fds(3)`), and what it is told (`sd_notify(3)`).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;

use crate::exit::{Failure, cause};
use crate::net::listener::Listener;
use crate::net::unix::notify;

/// The variables of systemd. They are for this process alone: programs that it runs must not see them.
pub const VARIABLES: [&str; 4] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
];

/// The number of the first descriptor that is passed.
const FIRST: usize = 3;

/// The descriptors that were passed, at least one.
pub struct Passed(ListenFd);

impl Passed {
    /// Call it once, and before this process has a second thread: it removes variables from the
    /// environment, which another thread must not read meanwhile (setenv(3)).
    pub fn take() -> Result<Self, Failure> {
        let passed = ListenFd::from_env();
        if passed.len() == 0 {
            let message = "could not listen on what systemd passes: it has passed nothing (LISTEN_FDS, LISTEN_PID)";
            return Err(Failure::local(message));
        }
        Ok(Self(passed))
    }

    /// Fails unless all are sockets for streams.
    pub fn listeners(self) -> Result<Vec<Listener>, Failure> {
        let what = "a socket that listens for streams (ListenStream=, Accept=no)";
        self.all(what, |passed, index| {
            let fd: Option<OwnedFd> = match passed.take_tcp_listener(index) {
                Ok(tcp) => tcp.map(OwnedFd::from),
                Err(_) => passed.take_unix_listener(index)?.map(OwnedFd::from),
            };
            fd.map(Listener::inherited).transpose()
        })
    }

    /// Fails unless all are sockets for datagrams of UDP.
    pub fn datagram_sockets(self) -> Result<Vec<UdpSocket>, Failure> {
        let what = "a socket for datagrams of UDP (ListenDatagram=)";
        self.all(what, ListenFd::take_udp_socket)
    }

    fn all<S>(
        mut self,
        what: &str,
        take: impl Fn(&mut ListenFd, usize) -> io::Result<Option<S>>,
    ) -> Result<Vec<S>, Failure> {
        let sockets = (0..self.0.len()).filter_map(|index| {
            let taken = take(&mut self.0, index).transpose()?;
            Some(taken.map_err(|_| {
                let number = FIRST + index;
                Failure::local(format!(
                    "could not listen on what systemd passes: descriptor {number} is not {what}"
                ))
            }))
        });
        sockets.collect()
    }
}

/// The server listens.
pub fn ready() {
    tell("READY=1");
}

/// The server ends, once what is open has ended.
pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = notify(&name, state) {
        let cause = cause(&error);
        tracing::warn!("could not tell systemd {state}: {cause}");
    }
}

/// Whether `name` is one of [`VARIABLES`].
pub fn is_variable(name: &OsStr) -> bool {
    VARIABLES.iter().any(|variable| name == *variable)
}
