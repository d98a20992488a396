//! Memory for the data of a connection: where the system has none, only that connection fails.
//!
//! A small allocation cannot fail: it aborts the process. A user may limit the memory
//! (setrlimit(2)). Then connections get buffers and threads only while small allocations find room.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use rustix::io::Errno;
use rustix::param::page_size;
use rustix::process::Resource;

use crate::limits;
use crate::wait::lock;

/// The limits of address space and of data, in bytes. Without this there are none.
static LIMITS: OnceLock<[u64; 2]> = OnceLock::new();

/// How many threads have a [`Share`].
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// What small allocations of one thread take. Under a limit, glibc may take a page for each of them.
const OF_A_THREAD: usize = 128 << 10;

/// Keeps a reserve from now on, if this process has a limit of memory.
pub fn keep_reserve() {
    let limits = [Resource::As, Resource::Data].map(soft);
    if limits.iter().any(Option::is_some) {
        let _ = LIMITS.set(limits.map(|limit| limit.unwrap_or(u64::MAX)));
    }
}

fn soft(resource: Resource) -> Option<u64> {
    limits::of(resource).ok()?.current
}

/// What glibc's malloc(3) reads when a program starts.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Stands in the environment if netkit has set [`TUNABLES`].
const TUNABLES_ARE_OURS: &str = "NETKIT_TUNABLES";

/// Whether netkit has set this variable for itself.
pub fn is_ours(name: &OsStr) -> bool {
    name == TUNABLES_ARE_OURS || name == TUNABLES && env::var_os(TUNABLES_ARE_OURS).is_some()
}

/// Under a limit of address space, lets all threads allocate from one arena. Call it while there is one
/// thread: it may execute this program anew.
///
/// At the first allocation of each thread glibc makes an arena for the thread. To find room for it, glibc
/// maps 64 or 128 MiB. While they are mapped nothing else fits below the limit, and another thread that
/// starts aborts the process.
#[cfg(target_env = "gnu")]
pub fn share_one_arena() {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    /// One arena, and each buffer goes back to the system as soon as it is free.
    const ONE_ARENA: &str = "glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=4096";
    if soft(Resource::As).is_none() || env::var_os(TUNABLES).is_some() {
        return;
    }
    let mut words = env::args_os();
    if let (Ok(path), Some(name)) = (env::current_exe(), words.next()) {
        // It returns only if it fails. Then netkit goes on without.
        let _ = Command::new(path)
            .arg0(name)
            .args(words)
            .env(TUNABLES, ONE_ARENA)
            .env(TUNABLES_ARE_OURS, "1")
            .exec();
    }
}

/// Other allocators map no arenas.
#[cfg(not(target_env = "gnu"))]
pub fn share_one_arena() {}

/// Takes up to `size` bytes by `take`, while the reserve stays free.
pub fn take<T>(size: usize, take: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    /// What small allocations take that are of no thread of a connection.
    const OTHERS: usize = 1 << 20;
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let Some(limits) = LIMITS.get() else {
        return take();
    };
    let _alone = lock(&ONE_AT_A_TIME);
    let reserve = OTHERS + THREADS.load(Ordering::Relaxed) * OF_A_THREAD;
    if free(limits) < size.saturating_add(reserve) {
        return Err(Errno::NOMEM.into());
    }
    take()
}

/// How many bytes this process may still map. Where the kernel does not tell, none is missing.
fn free(limits: &[u64; 2]) -> usize {
    let mut text = [0; 128];
    let read = File::open("/proc/self/statm").and_then(|mut file| file.read(&mut text));
    // proc_pid_statm(5): pages; the first number is the address space, the sixth data and stacks.
    let text = str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or("");
    let pages = |field| text.split(' ').nth(field)?.parse::<u64>().ok();
    let left = [0, 5].into_iter().zip(limits).map(|(field, limit)| {
        let used = pages(field).map_or(0, |pages| pages.saturating_mul(page_size() as u64));
        limit.saturating_sub(used)
    });
    left.min()
        .map_or(0, |left| usize::try_from(left).unwrap_or(usize::MAX))
}

/// A thread's part of the reserve. It lives as long as the thread.
pub struct Share(());

impl Share {
    /// Adds to the reserve, while enough is free for a thread with a stack of `stack` bytes.
    pub fn take(stack: usize) -> io::Result<Self> {
        /// Threads that are there get their buffers before there are more threads.
        const BUFFERS: usize = 1 << 20;
        take(stack + OF_A_THREAD + BUFFERS, || {
            THREADS.fetch_add(1, Ordering::Relaxed);
            Ok(Self(()))
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `size` zero bytes.
pub fn zeroed(size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = exactly(size)?;
    bytes.resize(size, 0);
    Ok(bytes)
}

fn exactly(size: usize) -> io::Result<Vec<u8>> {
    take(size, || {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Errno::NOMEM)?;
        Ok(bytes)
    })
}

/// Makes the buffer of a read larger, up to `most`, if the read has filled it. Most connections send
/// little, so a buffer begins small. Without memory it stays as it is.
pub fn grow(buffer: &mut Vec<u8>, read: usize, most: usize) {
    if read == buffer.len() && read < most {
        let size = (read * GROWTH).min(most);
        if let Ok(larger) = zeroed(size) {
            *buffer = larger;
        }
    }
}

/// The size of a buffer that [`grow`] makes larger.
pub const SMALL: usize = 4 << 10;

/// How many times as large a buffer becomes.
pub const GROWTH: usize = 8;

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
    take(more, || {
        Ok(bytes.try_reserve(more).map_err(|_| Errno::NOMEM)?)
    })
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
