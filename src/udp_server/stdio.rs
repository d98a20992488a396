//! Joins the server to standard input and output, as netcat's `-lu` does.

use std::io;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::guard::Desk;
use super::socket::{Inlet, Peer};
use crate::exit::{Exit, Failure, cause};
use crate::input;
use crate::net::datagram::{LARGEST, largest};
use crate::output;
use crate::relay::duplex::Writer;
use crate::relay::options;
use crate::wait::{is_wait, poll};

/// Prints what anybody sends, and sends what is read to the first who did.
pub struct Stdio {
    /// Whom standard input goes to.
    peer: Option<Peer>,
    stdin: io::Stdin,
    input_has_ended: bool,
    stdout: Writer,
    /// What standard output has no room for at the moment.
    unwritten: Vec<u8>,
    buffer: Vec<u8>,
}

impl Stdio {
    /// With `raw` a terminal gets control characters as they are.
    pub fn new(raw: bool) -> Result<Self, Failure> {
        let stdout = options::stdout(raw).map_err(|error| {
            let message = format!("could not open {}: {}", output::NAME, cause(&error));
            Failure::local(message)
        })?;
        Ok(Self {
            peer: None,
            stdin: io::stdin(),
            input_has_ended: false,
            stdout,
            unwritten: Vec::new(),
            buffer: vec![0; LARGEST],
        })
    }

    /// Whether another datagram can be taken.
    pub fn has_room(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// What `serve` has to be told of, in that order.
    pub fn descriptors(&self) -> Vec<PollFd<'_>> {
        let stdin = self
            .reads_input()
            .then(|| PollFd::new(&self.stdin, PollFlags::IN));
        stdin.into_iter().chain(self.output()).collect()
    }

    /// Before anybody has sent something, nobody is there to send to.
    fn reads_input(&self) -> bool {
        self.peer.is_some() && !self.input_has_ended
    }

    /// Standard output, while there is something to write; or to hear that its reader has left.
    fn output(&self) -> Option<PollFd<'_>> {
        if self.has_room() {
            let pipe = self.stdout.pipe()?;
            return Some(PollFd::from_borrowed_fd(pipe, PollFlags::empty()));
        }
        let stdout = self.stdout.fd()?;
        Some(PollFd::from_borrowed_fd(stdout, PollFlags::OUT))
    }

    /// Prints a datagram. If it is the first whose source may be sent to, that is who is talked to.
    pub fn take(&mut self, payload: &[u8], peer: Peer, desk: &mut Desk) -> Result<(), Failure> {
        if self.peer.is_none() {
            let source = peer.address;
            if let Some(refusal) = desk.of_source(source) {
                desk.refuse(refusal, source);
            } else {
                tracing::info!(event = "talk", peer = %source, "Talking to {source}.");
                self.peer = Some(peer);
            }
        }
        self.stdout.encode(payload, &mut self.unwritten);
        self.stdout.encode_end(&mut self.unwritten);
        self.write()
    }

    /// After poll(2): goes on writing, and sends what is on standard input as one datagram.
    pub fn serve(
        &mut self,
        ready: &[bool],
        inlets: &[Inlet],
        desk: &mut Desk,
    ) -> Result<(), Failure> {
        let (input, output) = match (self.reads_input(), ready) {
            (true, [input, output @ ..]) => (*input, output),
            (_, output) => (false, output),
        };
        if output == [true] {
            if self.has_room() {
                let error = io::ErrorKind::BrokenPipe.into();
                return Err(Failure::of_output(output::NAME, &error));
            }
            self.write()?;
        }
        if let Some(peer) = self.peer
            && input
        {
            let buffer = &mut self.buffer[..largest(&peer.address)];
            match input::read(buffer)? {
                Some(0) => self.input_has_ended = true,
                Some(count) => desk.send(&inlets[peer.inlet], &buffer[..count], &peer, None),
                None => {}
            }
        }
        Ok(())
    }

    /// Waits until all is written, to `limit` at most.
    pub fn finish(&mut self, limit: Instant) -> Result<(), Failure> {
        while !self.has_room() {
            let now = Instant::now();
            if now >= limit {
                let message = format!("{} took no more data in time", output::NAME);
                return Err(Failure::new(Exit::Timeout, message));
            }
            let mut descriptors: Vec<_> = self.output().into_iter().collect();
            poll(&mut descriptors, Some(limit - now))?;
            self.write()?;
        }
        Ok(())
    }

    /// Writes as much as goes without waiting.
    fn write(&mut self) -> Result<(), Failure> {
        while !self.unwritten.is_empty() {
            match self.stdout.write(&self.unwritten) {
                Ok(count) => drop(self.unwritten.drain(..count)),
                Err(error) if is_wait(&error) => break,
                Err(error) => return Err(Failure::of_output(output::NAME, &error)),
            }
        }
        Ok(())
    }
}
