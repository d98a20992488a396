//! Sends lines of printable characters until the peer goes away (RFC 864).

use std::io;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::tcp_server::connection::{Connection, Ended};
use crate::wait::poll;

/// What the peer sends is thrown away; its end of input does not end the lines, as only a peer that
/// has gone away has had enough.
#[inline(never)]
pub fn handle(connection: &Connection) -> Result<(), Ended> {
    let pattern = pattern();
    let mut sent = 0;
    let mut scratch = [0; 4096];
    let mut wanted = PollFlags::IN | PollFlags::OUT;
    let mut limit = connection.limit();
    loop {
        let mut descriptors = [PollFd::new(&**connection.stream(), wanted)];
        poll(&mut descriptors, limit.left()).map_err(Ended::Failed)?;
        let ready = descriptors[0].revents();
        if ready.contains(PollFlags::IN) {
            match recv(&**connection.stream(), &mut scratch, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => wanted = PollFlags::OUT,
                Ok((_, count)) => {
                    connection.count_received(count as u64);
                    limit = connection.limit();
                }
                Err(error) => match waits_or_ends(error.into()) {
                    Err(Ended::Failed(error)) if is_gone(&error) => return Ok(()),
                    waits => waits?,
                },
            }
        }
        if ready.intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP) {
            match send(
                &**connection.stream(),
                &pattern[sent..],
                SendFlags::DONTWAIT,
            ) {
                Ok(count) => {
                    connection.count_sent(count as u64);
                    sent = (sent + count) % pattern.len();
                    limit = connection.limit();
                }
                Err(error) => match waits_or_ends(error.into()) {
                    // The only way in which this service ends, here and above.
                    Err(Ended::Failed(error)) if is_gone(&error) => return Ok(()),
                    waits => waits?,
                },
            }
        }
        connection.check(limit)?;
    }
}

fn waits_or_ends(error: io::Error) -> Result<(), Ended> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(Ended::Failed(error)),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// All 95 lines of the RFC's suggestion: 72 of the printable characters, each line one further on.
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
