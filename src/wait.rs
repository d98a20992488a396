//! What a thread waits for: descriptors, time, and a sign from elsewhere.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;

/// Waits until one of `descriptors` is ready or `timeout` has passed; a signal ends the wait early.
pub fn poll(descriptors: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    // A timeout too long for the system is as good as none.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match rustix::event::poll(descriptors, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Which of `descriptors` poll(2) has found ready, or broken, in their order.
pub fn ready(descriptors: &[PollFd<'_>]) -> impl Iterator<Item = bool> {
    descriptors
        .iter()
        .map(|descriptor| !descriptor.revents().is_empty())
}

/// Whether nothing is wrong: the call has to be made again when poll(2) says so.
pub fn is_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// A sign that a thread or a signal handler gives, and that poll(2) can wait for: readable from when
/// it is given until it is taken.
pub struct Sign {
    receiver: UnixStream,
    /// Open as long as the receiver: one without a sender would be readable.
    sender: UnixStream,
}

impl Sign {
    pub fn new() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        Ok(Self { receiver, sender })
    }

    /// Never blocks.
    pub fn give(&self) {
        // A full buffer is readable, which is all that is wanted.
        let _ = (&self.sender).write(&[0]);
    }

    /// A descriptor to which every byte written gives the sign.
    pub fn sender(&self) -> io::Result<UnixStream> {
        self.sender.try_clone()
    }

    /// Whether it was given since it was last taken.
    pub fn take(&self) -> bool {
        let mut given = false;
        loop {
            match (&self.receiver).read(&mut [0; 64]) {
                Ok(64) => given = true,
                Ok(count) => return given || count > 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return given,
            }
        }
    }
}

impl AsFd for Sign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
