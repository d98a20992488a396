//! Sends back what it gets (RFC 862).

use crate::tcp_server::connection::{Connection, Ended};

// Stack budget: see pool.
#[inline(never)]
pub fn handle(connection: &Connection) -> Result<(), Ended> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            count => connection.write_all(&buffer[..count])?,
        }
    }
}
