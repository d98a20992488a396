//! Chooses the address that a ping sends its probes to.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Instant;

use crate::exit::{Exit, Failure, OrFail as _};
use crate::net::race::ATTEMPT_DELAY;
use crate::ping::console::Console;
use crate::udp_client::socket::ClientSocket;
use crate::udp_client::target::Target;
use crate::wait::{Deadline, IN, Key, Set};

pub struct Candidate {
    pub socket: ClientSocket,
    /// When the first probe was sent from this socket. `None`: it was not, or it did not arrive.
    pub sent: Option<Instant>,
}

/// Sends the first probe to one address after another until one answers. If none does, takes the
/// first that did not refuse it, or else the first of all. With one address, sends nothing. `whole`:
/// datagrams leave in one piece.
pub fn choose(
    target: &Target<'_>,
    payload: &[u8],
    whole: bool,
    console: &Console,
) -> Result<Candidate, Failure> {
    let mut candidates = Vec::new();
    let mut failure = Failure::local("could not send: there is no address");
    for &address in &target.addresses {
        match target.open(address) {
            Ok(socket) => {
                prepare(&socket, whole)?;
                candidates.push(Candidate { socket, sent: None });
            }
            Err(error) => failure = target.failure(address, &error),
        }
    }
    if candidates.len() < 2 {
        return candidates.pop().ok_or(failure);
    }
    let last = candidates.len() - 1;
    for newest in 0..=last {
        candidates[newest].sent = candidates[newest].socket.send(payload).ok();
        if let Some(index) = answered(&mut candidates[..=newest], console)? {
            return Ok(candidates.swap_remove(index));
        }
    }
    let is_silent = |candidate: &Candidate| candidate.sent.is_some();
    let silent = candidates.iter().position(is_silent);
    Ok(candidates.swap_remove(silent.unwrap_or(0)))
}

/// Makes `socket` one for probes.
pub fn prepare(socket: &ClientSocket, whole: bool) -> Result<(), Failure> {
    socket.ask_for_hop_limit();
    if whole {
        let set = socket.forbid_fragments();
        set.or_fail(Exit::Local, || "could not set --dont-fragment")?;
    }
    Ok(())
}

/// Waits for an answer until the last candidate refuses its probe, or its head start ends (RFC 8305,
/// section 5). Returns the index of the candidate that has answered. The answer stays in its socket.
fn answered(candidates: &mut [Candidate], console: &Console) -> io::Result<Option<usize>> {
    let until = Deadline::after(ATTEMPT_DELAY);
    let awaits = |candidate: &Candidate| candidate.sent.is_some();
    while candidates.last().is_some_and(awaits) && !until.has_passed() && !console.is_over() {
        let mut set = Set::new();
        let keys: Vec<Key> = candidates
            .iter()
            .map(|candidate| set.add(candidate.sent.map(|_| candidate.socket.as_fd()), IN))
            .collect();
        let ready = console.wait_until(set, until)?;
        let ready_keys = keys.iter().enumerate().filter(|(_, key)| ready[**key]);
        for (index, _) in ready_keys {
            if candidates[index].socket.take_error()?.is_none() {
                return Ok(Some(index));
            }
            candidates[index].sent = None;
        }
    }
    Ok(None)
}
