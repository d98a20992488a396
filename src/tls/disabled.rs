//! Without the cargo feature `tls`: nothing of this can be made, as every option is refused.

use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::args::{ClientTlsArgs, ServerTlsArgs};
use crate::exit::Failure;
use crate::wait::{Deadline, PollFlags};

type Socket = Arc<dyn AsFd + Send + Sync>;

pub enum Session {}

pub enum Connector {}

/// `made` is never read.
pub struct Acceptor {
    pub made: Option<String>,
    none: Session,
}

fn missing() -> Failure {
    Failure::usage("this netkit speaks no TLS: it was built without the cargo feature tls")
}

impl Connector {
    pub fn new(_args: &ClientTlsArgs, _limit: Deadline) -> Result<Self, Failure> {
        Err(missing())
    }

    pub fn with_verdict(args: &ClientTlsArgs, limit: Deadline) -> Result<Self, Failure> {
        Self::new(args, limit)
    }

    pub fn begin(&self, _socket: Socket, _host: &str) -> Result<Session, Failure> {
        match *self {}
    }

    pub fn check_keys(&self) -> Result<(), Failure> {
        match *self {}
    }

    pub fn failure(_error: &io::Error, _peer: impl Display, _limit: Deadline) -> Failure {
        missing()
    }

    pub fn distrust(&self, _session: &Session, _host: &str) -> Option<String> {
        match *self {}
    }

    pub fn shake_hands(
        &self,
        _socket: Socket,
        _host: &str,
        _peer: impl Display,
        _limit: Deadline,
    ) -> Result<Session, Failure> {
        match *self {}
    }
}

impl Acceptor {
    pub fn new(_args: &ServerTlsArgs, _addresses: &[IpAddr]) -> Result<Self, Failure> {
        Err(missing())
    }

    pub fn shake_hands(
        &self,
        _socket: Socket,
        _limit: Deadline,
    ) -> Result<Session, Option<String>> {
        match self.none {}
    }
}

impl Session {
    pub fn socket(&self) -> Socket {
        match *self {}
    }

    pub fn read(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub fn write(&self, _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub fn flush(&self) -> io::Result<bool> {
        match *self {}
    }

    pub fn is_flushing(&self) -> bool {
        match *self {}
    }

    pub fn is_ready(&self) -> bool {
        match *self {}
    }

    pub fn waits_for(&self, _wants: PollFlags) -> PollFlags {
        match *self {}
    }

    pub fn finish(&self) -> io::Result<()> {
        match *self {}
    }

    pub fn close(&self, _limit: Deadline, _most: usize) -> bool {
        match *self {}
    }

    pub fn subject(&self) -> Option<String> {
        match *self {}
    }

    pub fn summary(&self) -> String {
        match *self {}
    }

    pub fn proceed(&self) -> io::Result<bool> {
        match *self {}
    }

    pub fn next(&self) -> PollFlags {
        match *self {}
    }

    pub fn result(&self, _handshake: Option<Duration>) -> String {
        match *self {}
    }

    pub fn ends_within(&self, _time: Duration) -> Option<String> {
        match *self {}
    }

    pub fn fields(
        &self,
        _time: Option<Duration>,
        _why: Option<String>,
    ) -> Vec<(&'static str, Value)> {
        match *self {}
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
