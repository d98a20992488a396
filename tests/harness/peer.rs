//! The other end of a connection, which the test plays.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::SockRef;

use super::closing::Closing;
use super::text::shown;
use super::{DEADLINE, spawn};

/// A listener that plays a script with the first connection it gets. If the script fails, so does
/// the test, in `finish` or at its end.
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

    /// Stops listening once the connection is there.
    pub fn of_listener(
        listener: TcpListener,
        play: impl FnOnce(Connection) + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let listener = Closing::new(listener);
        let thread = spawn(move || {
            wait_until_ready(&*listener, PollFlags::IN, "nobody connected");
            let (stream, _) = listener.accept().unwrap();
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

    /// Waits until the script has ended.
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

/// A connection of the test. Each call waits at most [`DEADLINE`]. Dropping it closes it.
pub struct Connection {
    stream: Closing<TcpStream>,
}

impl Connection {
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)
            .unwrap_or_else(|error| panic!("could not connect to {address}: {error}"));
        Self::new(stream)
    }

    /// To a server that may reset a new connection. `None`: it did so before connect(2) returned.
    #[track_caller]
    pub fn unless_reset(address: SocketAddr) -> Option<Self> {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => Some(Self::new(stream)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                None
            }
        }
    }

    /// A server at `address` must reset a new connection.
    #[track_caller]
    pub fn rejected_by(address: SocketAddr) {
        if let Some(mut connection) = Self::unless_reset(address) {
            connection.expect_reset();
        }
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let stream = Closing::new(stream);
        Self { stream }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The address of the other end, as messages show it.
    pub fn peer(&self) -> String {
        self.stream.peer_addr().unwrap().to_string()
    }

    /// The address of this end, as messages of the other end show it.
    pub fn local(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.stream.write_all(bytes.as_ref()) {
            panic!("could not send {}: {error}", shown(bytes.as_ref()));
        }
    }

    /// Sends until the system takes no more at once. Returns the number of bytes.
    pub fn send_until_full(&mut self) -> usize {
        self.send_while(|_| false)
    }

    /// Sends until the other end, which must read nothing, takes no more.
    pub fn send_until_stuck(&mut self) {
        /// A busy kernel passes bytes on later.
        const LATER: Duration = Duration::from_millis(200);
        self.send_while(|stream| is_ready(stream, PollFlags::OUT, LATER));
    }

    fn send_while(&mut self, goes_on: impl Fn(&TcpStream) -> bool) -> usize {
        self.stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        loop {
            match self.stream.write(&[b'x'; 4096]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    panic!("could not send: {error}")
                }
                Err(_) if goes_on(&self.stream) => {}
                Err(_) => break,
            }
        }
        self.stream.set_nonblocking(false).unwrap();
        sent
    }

    /// The next bytes must be these. More may follow.
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

    /// The other end must close its direction next.
    #[track_caller]
    pub fn expect_eof(&mut self) {
        match self.read_once() {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => panic!("{} came, not the end", shown(&bytes)),
            Err(error) => panic!("'{error}' came, not the end"),
        }
    }

    /// The other end must reset the connection next.
    #[track_caller]
    pub fn expect_reset(&mut self) {
        match self.read_once() {
            Ok(bytes) => panic!("{} came, not a reset", ended(&bytes)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// Waits for bytes and returns them; none at the end.
    #[track_caller]
    pub fn receive(&mut self) -> Vec<u8> {
        self.read_once().unwrap()
    }

    /// Receives and forgets everything until the other end closes or resets.
    pub fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while matches!(self.stream.read(&mut buffer), Ok(1..)) {}
    }

    /// Receives everything until the other end closes.
    #[track_caller]
    pub fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut bytes) {
            panic!("{} and then '{error}' came", shown(&bytes));
        }
        bytes
    }

    /// For `time` the other end must neither send, nor close, nor reset. This wait always takes its
    /// whole time.
    #[track_caller]
    pub fn expect_nothing_for(&mut self, time: Duration) {
        if is_ready(&*self.stream, PollFlags::IN, time) {
            match self.read_once() {
                Ok(bytes) => panic!("{} came, not silence", ended(&bytes)),
                Err(error) => panic!("'{error}' came, not silence"),
            }
        }
    }

    /// Does nothing for `time`. The other end may close, but it must not reset.
    #[track_caller]
    pub fn hold_for(&mut self, time: Duration) {
        let broken = is_ready(&*self.stream, PollFlags::empty(), time);
        assert!(!broken, "the connection was broken off");
    }

    /// Sends as fast as the other end reads, until it has gone. Returns the error that shows it:
    /// `ConnectionReset`, or `BrokenPipe` if the other end had closed its direction before.
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

    /// Closes our direction; receiving goes on.
    pub fn shutdown(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Resets the connection.
    pub fn reset(self) {
        SockRef::from(&*self.stream)
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
