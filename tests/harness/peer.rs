//! The other end of a connection, played by the test.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::SockRef;

use super::text::shown;
use super::{DEADLINE, spawn};

/// A listener that plays a list of things to do with the first connection it gets. If that fails,
/// so does the test, at `finish` or at its end.
pub struct Peer {
    address: String,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Listens on 127.0.0.1.
    pub fn listen(play: impl FnOnce(Connection) + Send + 'static) -> Self {
        Self::listen_on("127.0.0.1:0", play)
    }

    pub fn listen_on(
        address: impl ToSocketAddrs,
        play: impl FnOnce(Connection) + Send + 'static,
    ) -> Self {
        Self::of_listener(TcpListener::bind(address).unwrap(), play)
    }

    /// Listens no more once the connection is there.
    pub fn of_listener(
        listener: TcpListener,
        play: impl FnOnce(Connection) + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let thread = spawn(move || {
            wait_until_ready(&listener, PollFlags::IN, "nobody connected");
            let (stream, _) = listener.accept().unwrap();
            // Closing alone would leave it open in a program that another test is just starting,
            // until that has become the program. Not all systems can do this.
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
            drop(listener);
            play(Connection::new(stream));
        });
        let thread = Some(thread);
        Self { address, thread }
    }

    /// `ADDRESS:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn port(&self) -> &str {
        self.address.rsplit_once(':').unwrap().1
    }

    /// Waits until it has done everything.
    #[track_caller]
    pub fn finish(mut self) {
        self.join();
    }

    #[track_caller]
    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or(panic.downcast_ref::<&str>().copied());
            panic!("the peer failed: {}", message.unwrap_or("it panicked"));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// A connection as a to-do list. Everything waits at most [`DEADLINE`]. Dropping it closes it.
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)
            .unwrap_or_else(|error| panic!("could not connect to {address}: {error}"));
        Self::new(stream)
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Where the other end is, as messages show it.
    pub fn peer(&self) -> String {
        self.stream.peer_addr().unwrap().to_string()
    }

    /// Where this end is, as the other end's messages show it.
    pub fn local(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.stream.write_all(bytes.as_ref()) {
            panic!("could not send {}: {error}", shown(bytes.as_ref()));
        }
    }

    /// Sends until the other end takes no more, for as long as it reads nothing. Returns how much.
    pub fn send_until_full(&mut self) -> usize {
        self.stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        loop {
            match self.stream.write(&[b'x'; 4096]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("could not send: {error}"),
            }
        }
        self.stream.set_nonblocking(false).unwrap();
        sent
    }

    /// The next bytes have to be these. More may follow.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let mut received = vec![0; bytes.len()];
        let mut length = 0;
        while length < bytes.len() && received[..length] == bytes[..length] {
            match self.stream.read(&mut received[length..]) {
                Ok(0) => panic!("{} came, not {}", ended(&received[..length]), shown(bytes)),
                Ok(count) => length += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!(
                    "{} and then '{error}' came, not {}",
                    shown(&received[..length]),
                    shown(bytes)
                ),
            }
        }
        assert!(
            received[..length] == bytes[..length],
            "{} came, not {}",
            shown(&received[..length]),
            shown(bytes)
        );
    }

    /// The other end has to end its direction next.
    #[track_caller]
    pub fn expect_eof(&mut self) {
        match self.read_once() {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => panic!("{} came, not the end", shown(&bytes)),
            Err(error) => panic!("'{error}' came, not the end"),
        }
    }

    /// The other end has to break off next.
    #[track_caller]
    pub fn expect_reset(&mut self) {
        match self.read_once() {
            Ok(bytes) => panic!("{} came, not a reset", ended(&bytes)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// What is there, once something is; empty at the end.
    #[track_caller]
    pub fn receive(&mut self) -> Vec<u8> {
        self.read_once().unwrap()
    }

    /// Receives everything until the other end has ended or broken off, and forgets it.
    pub fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while matches!(self.stream.read(&mut buffer), Ok(1..)) {}
    }

    /// Everything up to the other end's end.
    #[track_caller]
    pub fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut bytes) {
            panic!("{} and then '{error}' came", shown(&bytes));
        }
        bytes
    }

    /// For as long as that, the other end must neither send, nor end, nor break off. The only wait
    /// here that passes by itself: for what must not happen.
    #[track_caller]
    pub fn expect_nothing_for(&mut self, time: Duration) {
        if is_ready(&self.stream, PollFlags::IN, time) {
            match self.read_once() {
                Ok(bytes) => panic!("{} came, not silence", ended(&bytes)),
                Err(error) => panic!("'{error}' came, not silence"),
            }
        }
    }

    /// Does nothing for as long as that, while the other end must not break off; it may have ended.
    #[track_caller]
    pub fn hold_for(&mut self, time: Duration) {
        let broken = is_ready(&self.stream, PollFlags::empty(), time);
        assert!(!broken, "the connection was broken off");
    }

    /// Sends as fast as the other end takes it, until that has gone away. Returns how that showed:
    /// `ConnectionReset`, or `BrokenPipe` if it had ended its direction before.
    #[track_caller]
    pub fn send_until_left(&mut self) -> ErrorKind {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Err(error) = self.stream.write_all(&[b'x'; 4096]) {
                return error.kind();
            }
            assert!(Instant::now() < end, "the other end should have left");
        }
    }

    /// Ends our direction; receiving goes on.
    pub fn shutdown(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Breaks the connection off.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    fn read_once(&mut self) -> std::io::Result<Vec<u8>> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    buffer.truncate(count);
                    return Ok(buffer);
                }
            }
        }
    }
}

fn ended(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "the end".to_owned();
    }
    shown(bytes)
}

#[track_caller]
fn wait_until_ready(socket: &impl std::os::fd::AsFd, events: PollFlags, otherwise: &str) {
    assert!(is_ready(socket, events, DEADLINE), "{otherwise}");
}

fn is_ready(socket: &impl std::os::fd::AsFd, events: PollFlags, within: Duration) -> bool {
    let end = Instant::now() + within;
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).unwrap();
        let mut descriptors = [PollFd::new(socket, events)];
        match rustix::event::poll(&mut descriptors, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            count => return count.unwrap() > 0,
        }
    }
}
