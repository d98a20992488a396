//! Gives a datagram that the guard has admitted to the service.

use std::time::Duration;

use super::guard::Guard;
use super::programs::Programs;
use super::refusal::GREETING;
use super::socket::Peer;
use super::stdio::Stdio;
use super::{Args, Service};
use crate::exit::Failure;
use crate::server::program::Program;
use crate::wait::{Deadline, Ready, Set};

/// A service and its state.
pub enum Handler {
    Hello,
    Echo,
    Discard,
    Stdio(Stdio),
    Programs(Programs),
}

impl Handler {
    /// Opens what the service needs.
    pub fn new(args: &Args) -> Result<Self, Failure> {
        let program = Program::new(args.exec.as_deref(), args.sh_exec.as_deref())?;
        if let Some(program) = program {
            let idle_timeout = args.idle_timeout.unwrap_or(Duration::from_secs(60));
            let max_peers = args.max_peers.unwrap_or(256);
            let programs = Programs::new(program, idle_timeout, max_peers)?;
            return Ok(Self::Programs(programs));
        }
        Ok(match args.service() {
            Service::Hello => Self::Hello,
            Service::Echo => Self::Echo,
            Service::Discard => Self::Discard,
            Service::Stdio => Self::Stdio(Stdio::new(&args.talk, args.idle_timeout)?),
        })
    }

    /// Whether it answers by itself, so that two servers could answer each other without end. Then an
    /// answer has one hop less left than its datagram.
    pub fn counts_hops(&self) -> bool {
        matches!(self, Self::Hello | Self::Echo | Self::Programs(_))
    }

    /// The program that it runs for each peer.
    pub fn program(&self) -> Option<&Program> {
        match self {
            Self::Programs(programs) => Some(&programs.program),
            _ => None,
        }
    }

    /// Whether another datagram can be taken.
    pub fn has_room(&self) -> bool {
        match self {
            Self::Stdio(stdio) => stdio.has_room(),
            _ => true,
        }
    }

    /// Whether the service has ended by itself.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Stdio(stdio) => stdio.is_over(),
            _ => false,
        }
    }

    /// Adds the descriptors that [`Self::serve`] serves. Returns when it has something to do even if
    /// none is ready.
    pub fn watch<'a>(&'a mut self, set: &mut Set<'a>) -> Deadline {
        match self {
            Self::Hello | Self::Echo | Self::Discard => {}
            Self::Stdio(stdio) => return stdio.watch(set),
            Self::Programs(programs) => return programs.watch(set),
        }
        Deadline::NEVER
    }

    pub fn serve(&mut self, ready: &Ready, guard: &mut Guard) -> Result<(), Failure> {
        match self {
            Self::Hello | Self::Echo | Self::Discard => {}
            Self::Stdio(stdio) => stdio.serve(ready, guard)?,
            Self::Programs(programs) => programs.serve(ready, guard),
        }
        Ok(())
    }

    /// Serves a datagram that the guard has admitted. `hops` is the hop limit of an answer.
    pub fn take(
        &mut self,
        payload: &[u8],
        peer: Peer,
        hops: Option<u8>,
        guard: &mut Guard,
    ) -> Result<(), Failure> {
        match self {
            Self::Hello => guard.send(&[GREETING, payload, b"!"].concat(), &peer, hops),
            Self::Echo => guard.send(payload, &peer, hops),
            Self::Discard => {}
            Self::Stdio(stdio) => stdio.take(payload, peer, guard)?,
            Self::Programs(programs) => programs.take(payload, peer, hops, guard),
        }
        Ok(())
    }

    /// How it went, once all has finished.
    pub fn result(&self) -> Result<(), Failure> {
        match self {
            Self::Stdio(stdio) => stdio.result(),
            _ => Ok(()),
        }
    }

    /// Finishes what has begun. Blocks until `limit` at most.
    pub fn finish(&mut self, limit: Deadline, guard: &mut Guard) -> Result<(), Failure> {
        match self {
            Self::Hello | Self::Echo | Self::Discard => Ok(()),
            Self::Stdio(stdio) => stdio.finish(limit),
            Self::Programs(programs) => programs.finish(limit, guard),
        }
    }
}
