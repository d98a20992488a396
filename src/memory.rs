//! Memory for the data of a connection: where the system has none, only that connection fails.

use std::io;

use rustix::io::Errno;

/// `size` zero bytes.
pub fn zeroed(size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Errno::NOMEM)?;
    bytes.resize(size, 0);
    Ok(bytes)
}

/// A copy of `bytes`.
pub fn copy(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())
        .map_err(|_| Errno::NOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Makes room for `more` bytes after those in `bytes`. Up to that, adding some does not fail.
pub fn reserve(bytes: &mut Vec<u8>, more: usize) -> io::Result<()> {
    Ok(bytes.try_reserve(more).map_err(|_| Errno::NOMEM)?)
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
