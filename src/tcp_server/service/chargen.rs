//! Sends lines of printable characters until the peer goes away (RFC 864).

use crate::relay::duplex::is_gone;
use crate::tcp_server::connection::Connection;
use crate::tcp_server::ended::Ended;
use crate::wait::{IN, OUT, Set};

/// Blocks until the peer has gone away. What the peer sends is thrown away, and its end of input ends
/// nothing.
// Stack budget: see pool.
#[inline(never)]
pub fn handle(connection: &Connection) -> Result<(), Ended> {
    match send_lines(connection) {
        Err(Ended::Failed(error)) if is_gone(&error) => Ok(()),
        result => result,
    }
}

/// Ends only by an error.
fn send_lines(connection: &Connection) -> Result<(), Ended> {
    let pattern = pattern();
    let mut position = 0;
    let mut scratch = [0; 4096];
    let mut wants = IN | OUT;
    let mut limit = connection.limit();
    loop {
        let mut set = Set::new();
        let key = connection.add_to(&mut set, wants);
        let ready = set.wait(limit).map_err(Ended::Failed)?.events(key);
        let mut moved = false;
        if ready.contains(IN) {
            let read = connection.try_read(&mut scratch)?;
            match read {
                Some(0) => wants = OUT,
                _ => moved = read.is_some(),
            }
        }
        if ready.intersects(!IN)
            && let Some(count) = connection.try_write(&pattern[position..])?
        {
            position = (position + count) % pattern.len();
            moved = true;
        }
        if moved {
            limit = connection.limit();
        }
        connection.check(limit)?;
    }
}

/// The 95 lines that the RFC suggests: each has 72 of the printable characters and begins one
/// character further on.
fn pattern() -> Vec<u8> {
    let line = |start: usize| {
        let characters = (b' '..=b'~').cycle().skip(start).take(72);
        characters.chain(*b"\r\n")
    };
    (0..95).flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_the_rfcs() {
        let pattern = pattern();
        let lines: Vec<_> = pattern.split_inclusive(|&byte| byte == b'\n').collect();
        assert_eq!(lines.len(), 95);
        assert!(lines.iter().all(|line| line.len() == 74));
        assert!(lines[0].starts_with(b" !\"#$%&'()*+,-./0123456789:;<=>?@AB"));
        assert!(lines[1].starts_with(b"!\"#$"));
        assert!(lines[94].starts_with(b"~ !\"#"));
    }
}
