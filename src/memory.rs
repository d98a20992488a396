//! Memory for the data of a connection: where the system has none, only that connection fails.
//!
//! A server keeps some memory that it does not use. When a buffer or a thread cannot be had, the server
//! gives it up: what cannot fail, such as a log line, goes on with it. Until it is there again, no
//! connection gets a buffer or a thread.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::wait::lock;

static SPARE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// The spare memory has been given up.
static IS_SHORT: AtomicBool = AtomicBool::new(false);
/// This process may have only so much memory (setrlimit(2)): to run out is likely.
static IS_LIMITED: AtomicBool = AtomicBool::new(false);

const SPARE_SIZE: usize = 2 << 20;

/// Keeps spare memory from now on. Its pages are never touched: it is only address space.
pub fn keep_spare() {
    let is_limited = |resource| getrlimit(resource).current.is_some();
    let limited = is_limited(Resource::As) || is_limited(Resource::Data);
    IS_LIMITED.store(limited, Ordering::Relaxed);
    if limited {
        has_spare();
    }
}

/// Whether the spare memory is there, or there again.
fn has_spare() -> bool {
    let mut spare = lock(&SPARE);
    let is_there = spare.capacity() > 0 || spare.try_reserve_exact(SPARE_SIZE).is_ok();
    IS_SHORT.store(!is_there, Ordering::Relaxed);
    is_there
}

fn give_up_spare() {
    IS_SHORT.store(true, Ordering::Relaxed);
    *lock(&SPARE) = Vec::new();
}

/// What needs memory and cannot fail takes less than this at a time.
const MARGIN: usize = 256 << 10;

/// Whether `size` bytes can be had.
fn are_there(size: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(size).is_ok()
}

/// Takes memory by `take`, if more than the spare is left. If not, the spare is given up.
pub fn take<T>(take: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if IS_SHORT.load(Ordering::Relaxed) && !has_spare() {
        return Err(Errno::NOMEM.into());
    }
    let taken = take();
    let is_limited = IS_LIMITED.load(Ordering::Relaxed);
    if is_limited && (taken.is_err() || !are_there(MARGIN)) {
        give_up_spare();
    }
    taken
}

/// `size` zero bytes.
pub fn zeroed(size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = exactly(size)?;
    bytes.resize(size, 0);
    Ok(bytes)
}

fn exactly(size: usize) -> io::Result<Vec<u8>> {
    take(|| {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Errno::NOMEM)?;
        Ok(bytes)
    })
}

/// Makes the buffer of a read larger, up to `most`, if the read has filled it. Most connections send
/// little, so a buffer begins small. Without memory it stays as it is.
pub fn grow(buffer: &mut Vec<u8>, read: usize, most: usize) {
    const FACTOR: usize = 8;
    if read == buffer.len() && read < most {
        let size = (read * FACTOR).min(most);
        if let Ok(larger) = zeroed(size) {
            *buffer = larger;
        }
    }
}

/// The size of a buffer that [`grow`] makes larger.
pub const SMALL: usize = 4 << 10;

/// A copy of `bytes`.
pub fn copy(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut copy = exactly(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Makes room for `more` bytes after those in `bytes`. Up to that, adding some does not fail.
pub fn reserve(bytes: &mut Vec<u8>, more: usize) -> io::Result<()> {
    if bytes.capacity() - bytes.len() >= more {
        return Ok(());
    }
    take(|| Ok(bytes.try_reserve(more).map_err(|_| Errno::NOMEM)?))
}

/// Adds `more` to `bytes`.
pub fn append(bytes: &mut Vec<u8>, more: &[u8]) -> io::Result<()> {
    reserve(bytes, more.len())?;
    bytes.extend_from_slice(more);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_when_a_read_fills_it() {
        let mut buffer = zeroed(4).unwrap();
        let mut sizes = Vec::new();
        for read in [3, 4, 31, 32, 40, 40] {
            grow(&mut buffer, read, 40);
            sizes.push(buffer.len());
        }
        assert_eq!(sizes, [4, 32, 32, 40, 40, 40]);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_changes_nothing() {
        let mut bytes = copy(b"ab").unwrap();
        append(&mut bytes, b"c").unwrap();
        assert_eq!(bytes, b"abc");
        assert_eq!(zeroed(3).unwrap(), [0; 3]);
        for error in [
            zeroed(usize::MAX / 2).unwrap_err(),
            reserve(&mut bytes, usize::MAX / 2).unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        }
        assert_eq!(bytes, b"abc");
    }
}
