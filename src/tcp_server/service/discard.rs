//! Throws away what it gets (RFC 863).

use crate::memory;
use crate::tcp_server::connection::Connection;
use crate::tcp_server::ended::Ended;

// Stack budget: see pool.
#[inline(never)]
pub fn handle(connection: &Connection) -> Result<(), Ended> {
    /// So large that a system call costs little per byte.
    const MOST: usize = 128 << 10;
    let mut buffer = memory::zeroed(memory::SMALL).map_err(Ended::Failed)?;
    loop {
        let count = connection.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        memory::grow(&mut buffer, count, MOST);
    }
}
