//! One TLS connection: plaintext is read and written here, and its socket carries it encrypted.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, shutdown};
use rustls::pki_types::CertificateDer;

use super::certificate::{self, Certificate};
use super::words;
use crate::wait::{Deadline, IN, OUT, PollFlags, Set, if_ready};

/// The most plaintext that waits encrypted for a peer that does not read.
// rustls allocates each record. With more than this, allocators get memory from the system for each
// write, and give it back: 256 KiB cost a third of the bulk rate with glibc, half of it with musl.
const MOST_UNSENT: usize = 64 << 10;

/// rustls reads 4 KiB at a time at first. A larger read saves system calls.
const CIPHERTEXT: usize = 64 << 10;

/// A socket that owners share. It closes when all have dropped it.
pub type Socket = Arc<dyn AsFd + Send + Sync>;

/// A connection and its socket, which is non-blocking. No call blocks but those with a `limit`.
pub struct Session {
    socket: Socket,
    state: RefCell<State>,
}

struct State {
    engine: rustls::Connection,
    ciphertext: Vec<u8>,
    /// The part of `ciphertext` that the engine has not taken.
    unread: Range<usize>,
    /// Why the connection failed. It is reported after the plaintext before it.
    failure: Option<rustls::Error>,
    is_finished: bool,
    /// A peer that ends without `close_notify` has ended in order.
    allows_cut: bool,
    /// A write has met a reset, which the system tells once: the next read shows an end.
    was_reset: bool,
}

impl Session {
    pub fn new(
        socket: Socket,
        mut engine: rustls::Connection,
        allows_cut: bool,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        engine.set_buffer_limit(Some(MOST_UNSENT));
        let state = RefCell::new(State {
            engine,
            ciphertext: Vec::new(),
            unread: 0..0,
            failure: None,
            is_finished: false,
            allows_cut,
            was_reset: false,
        });
        Ok(Self { socket, state })
    }

    pub fn socket(&self) -> Socket {
        Arc::clone(&self.socket)
    }

    /// Blocks until both sides have agreed, or until `limit`: then it fails with `TimedOut`. A peer
    /// that is refused is told why.
    pub fn shake_hands(&self, limit: Deadline) -> io::Result<()> {
        while !self.proceed()? {
            if limit.has_passed() {
                return Err(ErrorKind::TimedOut.into());
            }
            let mut set = Set::new();
            set.add(self.socket.as_fd(), self.next());
            set.wait(limit)?;
        }
        Ok(())
    }

    /// What poll(2) has to wait for before the handshake proceeds.
    pub fn next(&self) -> PollFlags {
        if self.is_flushing() { OUT } else { IN }
    }

    /// Goes on with the handshake; whether both sides have agreed.
    pub fn proceed(&self) -> io::Result<bool> {
        let state = &mut *self.state.borrow_mut();
        loop {
            state.flush(&self.socket)?;
            let is_flushing = state.engine.wants_write();
            if is_flushing || !state.engine.is_handshaking() {
                return Ok(!is_flushing);
            }
            match if_ready(state.receive(&self.socket))? {
                None => return Ok(false),
                Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(_) => state.process(),
            }
            if let Some(error) = state.failure.take() {
                let _ = state.flush(&self.socket);
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
    }

    /// Reads plaintext; 0 is the end that the peer has told (`close_notify`). Fails with `WouldBlock`
    /// where nothing has arrived, and with `UnexpectedEof` where the connection was cut off.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        loop {
            let mut count = 0;
            while count < buffer.len() {
                match state.engine.reader().read(&mut buffer[count..]) {
                    Ok(0) => return Ok(count),
                    Ok(more) => count += more,
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof && count == 0 => {
                        return state.cut();
                    }
                    Err(_) if state.unread.is_empty() || state.failure.is_some() => break,
                    Err(_) => state.process(),
                }
            }
            if count > 0 {
                return Ok(count);
            }
            if let Some(error) = &state.failure {
                let sentence = words::told(error);
                let _ = state.flush(&self.socket);
                return Err(io::Error::new(ErrorKind::InvalidData, sentence));
            }
            let received = state.receive(&self.socket);
            // What a message of the peer asked for, such as new keys.
            if received.is_err() {
                let _ = state.flush(&self.socket);
            }
            received?;
            state.process();
        }
    }

    /// Encrypts `bytes` and sends what the system takes. Returns how many were encrypted. Fails with
    /// `WouldBlock` while earlier ones wait for the system.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        state.flush(&self.socket)?;
        if state.engine.wants_write() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = state.engine.writer().write(bytes)?;
        state.flush(&self.socket)?;
        Ok(count)
    }

    /// Sends what the system takes. Returns whether it took anything.
    pub fn flush(&self) -> io::Result<bool> {
        self.state.borrow_mut().flush(&self.socket)
    }

    /// Whether encrypted bytes wait for the system.
    pub fn is_flushing(&self) -> bool {
        self.state.borrow().engine.wants_write()
    }

    /// Whether a read returns at once, whatever poll(2) says.
    pub fn is_ready(&self) -> bool {
        let state = self.state.borrow();
        let has_more = !state.unread.is_empty() || !state.engine.wants_read();
        has_more || state.failure.is_some()
    }

    /// What poll(2) has to wait for before a call that `wants` it.
    pub fn waits_for(&self, wants: PollFlags) -> PollFlags {
        if self.is_flushing() {
            return wants | OUT;
        }
        wants
    }

    /// Tells the peer the end of our data (`close_notify`). No FIN is sent: some servers take it for a
    /// hang-up and drop their answer.
    pub fn finish(&self) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        if !state.is_finished {
            state.is_finished = true;
            state.engine.send_close_notify();
        }
        state.flush(&self.socket).map(drop)
    }

    /// Ends the connection in order: sends `close_notify` and FIN, and throws away what still arrives, as
    /// unread bytes would make the close a reset. Blocks until the peer has ended or `limit`. Returns
    /// whether the peer sent no more than `most` bytes meanwhile.
    pub fn close(&self, limit: Deadline, most: usize) -> bool {
        if self.finish().is_err() {
            return true;
        }
        while self.is_flushing() && !limit.has_passed() {
            let mut set = Set::new();
            set.add(self.socket.as_fd(), OUT);
            if set.wait(limit).is_err() || self.flush().is_err() {
                return true;
            }
        }
        let _ = shutdown(&self.socket, Shutdown::Write);
        let mut scratch = [0; 1024];
        let mut dropped = 0;
        let has_ended = self.has_peer_ended();
        loop {
            match if_ready(receive(&self.socket, &mut scratch)) {
                Ok(Some(0)) | Err(_) => return true,
                Ok(Some(count)) => dropped += count,
                Ok(None) if has_ended || limit.has_passed() => return true,
                Ok(None) => {
                    let mut set = Set::new();
                    set.add(self.socket.as_fd(), IN);
                    if set.wait(limit).is_err() {
                        return true;
                    }
                }
            }
            if dropped > most {
                return false;
            }
        }
    }

    /// Whether the peer has told its end.
    fn has_peer_ended(&self) -> bool {
        let state = self.state.borrow();
        state.unread.is_empty() && !state.engine.wants_read()
    }

    /// What was agreed on: version, cipher suite, group of the key exchange, and application protocol.
    pub fn agreed(&self) -> Agreed {
        let state = self.state.borrow();
        let engine = &state.engine;
        let version = match engine.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS 1.3",
        };
        let cipher = engine.negotiated_cipher_suite();
        let cipher = cipher.map(|suite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_"));
        let group = engine.negotiated_key_exchange_group();
        let alpn = engine.alpn_protocol().map(String::from_utf8_lossy);
        Agreed {
            version,
            cipher: cipher.unwrap_or_default(),
            group: group.map_or_else(String::new, |group| format!("{:?}", group.name())),
            alpn: alpn.map(|alpn| crate::escape::one_line(&alpn)),
        }
    }

    /// The certificates that the peer has presented, its own first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let state = self.state.borrow();
        state
            .engine
            .peer_certificates()
            .unwrap_or_default()
            .to_vec()
    }

    /// Whom the peer's certificate names, escaped. `None`: it presented none.
    pub fn subject(&self) -> Option<String> {
        let chain = self.chain();
        let own = chain.first()?;
        let read = Certificate::read(own);
        Some(read.map_or_else(|| certificate::fingerprint(own), |own| own.subject))
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What both sides agreed on, in the words of the RFCs.
pub struct Agreed {
    pub version: &'static str,
    pub cipher: String,
    pub group: String,
    pub alpn: Option<String>,
}

impl State {
    /// The connection has ended without `close_notify`.
    fn cut(&self) -> io::Result<usize> {
        if self.allows_cut {
            return Ok(0);
        }
        let is_client = matches!(self.engine, rustls::Connection::Client(_));
        let advice = if is_client && self.is_finished {
            "; if it took our end for a hang-up, --no-shutdown helps"
        } else {
            ""
        };
        let sentence = format!(
            "it ended without saying so (TLS close_notify); what came may be cut short{advice}"
        );
        Err(io::Error::new(ErrorKind::UnexpectedEof, sentence))
    }

    /// Receives once; 0 is a FIN, which the engine is told.
    fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        if self.ciphertext.is_empty() {
            self.ciphertext = vec![0; CIPHERTEXT];
        }
        let count = receive(socket, &mut self.ciphertext)?;
        self.unread = 0..count;
        if count == 0 && self.was_reset {
            return Err(Errno::CONNRESET.into());
        }
        if count == 0 {
            self.engine.read_tls(&mut io::empty())?;
        }
        Ok(count)
    }

    /// Gives the engine what was received, until it has plaintext that nobody has read.
    fn process(&mut self) {
        while self.failure.is_none() {
            let mut ciphertext = &self.ciphertext[self.unread.clone()];
            match self.engine.read_tls(&mut ciphertext) {
                // What follows close_notify is nobody's.
                Ok(0) => self.unread = 0..0,
                Ok(count) => self.unread.start += count,
                // It has plaintext that has to be read first.
                Err(_) => {}
            }
            match self.engine.process_new_packets() {
                Ok(state) if self.unread.is_empty() || state.plaintext_bytes_to_read() > 0 => break,
                Ok(_) => {}
                Err(error) => self.failure = Some(error),
            }
        }
    }

    fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        let mut has_moved = false;
        while self.engine.wants_write() {
            match if_ready(self.engine.write_tls(&mut Sender(socket))) {
                Ok(Some(_)) => has_moved = true,
                Ok(None) => break,
                Err(error) => {
                    // It is EPIPE where an end came before the reset.
                    self.was_reset |= error.kind() == ErrorKind::ConnectionReset;
                    return Err(error);
                }
            }
        }
        Ok(has_moved)
    }
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    let (_, count) = rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(count)
}

/// Where the engine writes records. It hands over many at once.
struct Sender<'a>(&'a Socket);

impl Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.0, bytes, SendFlags::DONTWAIT)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(self.0, slices)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
