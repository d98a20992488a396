//! One connected stream, TCP or Unix. Nothing outside this folder depends on which.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use socket2::Socket;

use super::peer::{Endpoint, Process};
use crate::wait::{Deadline, pause};

/// An open connection. It is closed when dropped.
#[derive(Debug)]
pub struct Stream(Socket);

impl Stream {
    /// `socket` is connected.
    pub fn new(socket: Socket) -> Self {
        Self(socket)
    }

    /// The address of this end. A Unix socket that was not bound has none.
    pub fn local(&self) -> io::Result<Option<Endpoint>> {
        Ok(Endpoint::of(&self.0.local_addr()?))
    }

    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.set_nonblocking(nonblocking)
    }

    /// Lets `receive` fail with `WouldBlock` after `limit`. Zero is refused.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(limit)
    }

    /// Lets `send` fail with `WouldBlock` after `limit`. Zero is refused.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(limit)
    }

    /// Receives once; 0 is the end of the peer's data.
    pub fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let (_, count) = rustix::net::recv(&self.0, buffer, flags)?;
        Ok(count)
    }

    /// Sends as much of `bytes` as one call takes.
    pub fn send(&self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, bytes, flags)?)
    }

    /// Ends one or both directions. After `Write` the peer sees the end of our data.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }

    /// Blocks until the peer has acknowledged all that was sent, or until `limit`. Does so on Linux
    /// only.
    pub fn await_acknowledgement(&self, limit: Deadline) -> io::Result<()> {
        /// poll(2) cannot wait for that.
        const LOOK_AGAIN: Duration = Duration::from_millis(1);
        while unacknowledged(&self.0) > 0 && !limit.has_passed() {
            pause(limit.min(Deadline::after(LOOK_AGAIN)))?;
        }
        Ok(())
    }

    /// Resets the connection. Every thread that reads or writes it fails at once.
    pub fn reset(&self) {
        self.reset_on_close();
        // Where the kernel cannot disconnect a connection, its peer sees an end.
        if rustix::net::connect_unspec(&self.0).is_err() {
            let _ = self.shutdown(Shutdown::Both);
        }
    }

    /// Makes closing reset the connection (`SO_LINGER` 0): the peer sees no end.
    pub fn reset_on_close(&self) {
        // A connection that is over shows no end either.
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}

/// The memory of what the peer has not acknowledged (`sk_wmem_queued`). 0: it has acknowledged all.
#[cfg(target_os = "linux")]
fn unacknowledged(socket: &Socket) -> u32 {
    use nix::libc::{self, SOL_SOCKET};
    use nix::{getsockopt_impl, sockopt_impl};
    /// `asm-generic/socket.h`. The libc crate does not have it.
    const SO_MEMINFO: i32 = 55;
    /// `SK_MEMINFO_WMEM_QUEUED` of `linux/sock_diag.h`, where these are the first of more.
    const QUEUED: usize = 5;
    sockopt_impl!(MemInfo, GetOnly, SOL_SOCKET, SO_MEMINFO, [u32; 8]);
    nix::sys::socket::getsockopt(socket, MemInfo).map_or(0, |info| info[QUEUED])
}

/// Elsewhere that is unknown.
#[cfg(not(target_os = "linux"))]
fn unacknowledged(_socket: &Socket) -> u32 {
    0
}

/// The process that has connected `socket`, a Unix socket (`SO_PEERCRED`).
#[cfg(target_os = "linux")]
pub(super) fn process(socket: &Socket) -> Option<Process> {
    let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
    Some(Process {
        pid: peer.pid.as_raw_nonzero().get(),
        uid: peer.uid.as_raw(),
    })
}

/// Elsewhere that is unknown.
#[cfg(not(target_os = "linux"))]
pub(super) fn process(_socket: &Socket) -> Option<Process> {
    None
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
