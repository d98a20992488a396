//! Throws away what it gets (RFC 863).

use crate::tcp_server::connection::{Connection, Ended};

// Stack budget: see pool.
#[inline(never)]
pub fn handle(connection: &Connection) -> Result<(), Ended> {
    let mut buffer = vec![0; 128 << 10];
    while connection.read(&mut buffer)? > 0 {}
    Ok(())
}
