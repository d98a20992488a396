//! Bytes from a pipe to a socket, or back, without a copy through this process.

use std::io;
use std::os::fd::BorrowedFd;

/// Moves what is there, up to a mebibyte, and returns how much; 0 is the end of `from`.
/// `WouldBlock` says that `from` has nothing or that `to` takes nothing; the socket of the two must
/// be non-blocking (splice(2)).
#[cfg(target_os = "linux")]
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<usize> {
    use rustix::pipe::{SpliceFlags, splice};
    const MOST: usize = 1 << 20;
    Ok(splice(
        from,
        None,
        to,
        None,
        MOST,
        SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
    )?)
}

/// Only Linux can.
#[cfg(not(target_os = "linux"))]
pub fn splice(_from: BorrowedFd<'_>, _to: BorrowedFd<'_>) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
