//! A connection to a proxy on which the dialogue with it, and with each behind it, goes on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{RecvFlags, SendFlags};

use super::hop::{Hop, Kind};
use super::http;
use super::route::Point;
use super::socks::{self, Socks5};
use crate::exit::{Exit, blame, cause};
use crate::net::stream::Stream;
use crate::wait::{IN, OUT, PollFlags, if_ready};

/// What is sent next, and what has to come then.
pub struct Turn {
    pub send: Vec<u8>,
    pub expect: Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// That many bytes, at least one.
    Bytes(usize),
    /// The head of an HTTP answer, with its empty line.
    Head,
    /// The dialogue is over: what comes is the peer's.
    Nothing,
}

impl Turn {
    pub const DONE: Self = Self {
        send: Vec::new(),
        expect: Expect::Nothing,
    };

    pub fn new(send: Vec<u8>, expect: Expect) -> Self {
        Self { send, expect }
    }

    pub fn expect(count: usize) -> Self {
        Self::new(Vec::new(), Expect::Bytes(count))
    }
}

/// Why a proxy does not connect us.
#[derive(Debug)]
pub struct Refusal {
    pub exit: Exit,
    pub why: String,
    /// To try again would not help.
    pub is_final: bool,
}

impl Refusal {
    pub fn new(exit: Exit, why: impl Into<String>) -> Self {
        Self {
            exit,
            why: why.into(),
            is_final: false,
        }
    }

    /// In the proxy's words.
    pub fn says(what: impl AsRef<str>) -> Self {
        Self::new(Exit::Network, format!("the proxy says {}", what.as_ref()))
    }

    pub fn no_proxy(kind: &str) -> Self {
        let article = if kind == "HTTP" { "an" } else { "a" };
        let why = format!("it does not answer as {article} {kind} proxy");
        Self::new(Exit::Network, why)
    }

    pub fn of_credentials(why: &str) -> Self {
        let why = format!("{why} (--proxy with USER:PASSWORD@, or NETKIT_PROXY_AUTH)");
        Self {
            is_final: true,
            ..Self::new(Exit::Network, why)
        }
    }

    fn of(error: &io::Error) -> Self {
        Self::new(blame(error), cause(error))
    }
}

enum Dialogue {
    Socks4,
    Socks5(Socks5),
    Http { had_credentials: bool },
}

pub struct Tunnel {
    stream: Stream,
    dialogue: Dialogue,
    unsent: Vec<u8>,
    expect: Expect,
    received: Vec<u8>,
}

impl Tunnel {
    /// `stream` leads to the proxy `hop`, which is to connect it to `point`.
    pub fn new(stream: Stream, hop: &Hop, point: &Point) -> Self {
        let (mut dialogue, first) = match hop.kind {
            Kind::Socks4 | Kind::Socks4a => (
                Dialogue::Socks4,
                Some(socks::socks4(point, hop.credentials.as_ref())),
            ),
            Kind::Socks5 | Kind::Socks5h => (
                Dialogue::Socks5(Socks5::new(point, hop.credentials.clone())),
                None,
            ),
            Kind::Http => (
                Dialogue::Http {
                    had_credentials: hop.credentials.is_some(),
                },
                Some(http::request(point, hop.credentials.as_ref())),
            ),
        };
        let first = first.or_else(|| dialogue.next(&[]).ok());
        let Turn { send, expect } = first.unwrap_or(Turn::DONE);
        Self {
            stream,
            dialogue,
            unsent: send,
            expect,
            received: Vec::new(),
        }
    }

    /// What [`Self::advance`] waits for.
    pub fn events(&self) -> PollFlags {
        if self.unsent.is_empty() { IN } else { OUT }
    }

    /// The connection, once [`Self::advance`] has said that the dialogue is over.
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Sends and receives what it can without blocking. Whether the dialogue is over.
    pub fn advance(&mut self) -> Result<bool, Refusal> {
        loop {
            while !self.unsent.is_empty() {
                let sent = self.stream.send(&self.unsent, SendFlags::DONTWAIT);
                match if_ready(sent).map_err(|error| Refusal::of(&error))? {
                    Some(count) => drop(self.unsent.drain(..count)),
                    None => return Ok(false),
                }
            }
            if self.expect == Expect::Nothing {
                return Ok(true);
            }
            let is_complete = self.receive();
            if !is_complete.map_err(|error| Refusal::of(&error))? {
                return self.check_head().map(|()| false);
            }
            let received = std::mem::take(&mut self.received);
            let turn = self.dialogue.next(&received)?;
            (self.unsent, self.expect) = (turn.send, turn.expect);
        }
    }

    /// Fails if what has come is not the beginning of an HTTP answer, where one is expected. Nothing more
    /// may come then.
    fn check_head(&self) -> Result<(), Refusal> {
        const START: &[u8] = b"HTTP/";
        let begin = &self.received[..self.received.len().min(START.len())];
        let is_too_large = self.received.len() >= LARGEST_HEAD;
        if self.expect == Expect::Head && (is_too_large || !START.starts_with(begin)) {
            return Err(Refusal::no_proxy("HTTP"));
        }
        Ok(())
    }

    /// Takes what was expected and not a byte more. Whether it is complete.
    fn receive(&mut self) -> io::Result<bool> {
        loop {
            let (mut buffer, is_head) = match self.expect {
                Expect::Nothing => return Ok(true),
                Expect::Bytes(count) if self.received.len() == count => return Ok(true),
                Expect::Bytes(count) => (vec![0; count - self.received.len()], false),
                Expect::Head if end_of_head(&self.received).is_some() => return Ok(true),
                Expect::Head if self.received.len() >= LARGEST_HEAD => return Ok(false),
                Expect::Head => (vec![0; LARGEST_HEAD - self.received.len()], true),
            };
            if is_head {
                // Only a look: what follows the head is the peer's.
                let Some(count) = self.receive_into(&mut buffer, RecvFlags::PEEK)? else {
                    return Ok(false);
                };
                let seen = [&self.received, &buffer[..count]].concat();
                let end = end_of_head(&seen).unwrap_or(seen.len());
                buffer.truncate(end - self.received.len());
            }
            match self.receive_into(&mut buffer, RecvFlags::empty())? {
                Some(count) => self.received.extend(&buffer[..count]),
                None => return Ok(false),
            }
        }
    }

    fn receive_into(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Option<usize>> {
        let count = if_ready(self.stream.receive(buffer, flags | RecvFlags::DONTWAIT))?;
        if count == Some(0) {
            let message = "the proxy has closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(count)
    }
}

impl Dialogue {
    fn next(&mut self, received: &[u8]) -> Result<Turn, Refusal> {
        match self {
            Self::Socks4 => socks::socks4_answer(received),
            Self::Socks5(dialogue) => dialogue.next(received),
            Self::Http { had_credentials } => http::answer(received, *had_credentials),
        }
    }
}

impl AsFd for Tunnel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Far more than a proxy sends.
const LARGEST_HEAD: usize = 16 << 10;

/// Where the first empty line ends.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let ends = |at: &usize| bytes[..*at].ends_with(b"\n\n") || bytes[..*at].ends_with(b"\n\r\n");
    (1..=bytes.len()).find(ends)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    /// The answers of a proxy, for each kind and each form that they may have.
    fn answers() -> Vec<(&'static str, Vec<u8>)> {
        let socks5 = |bound: &[u8]| [&[5, 0, 5, 0, 0][..], bound].concat();
        vec![
            ("socks4://h", b"\0\x5a\x01\x02\x7f\0\0\x01".to_vec()),
            ("socks5://h", socks5(&[1, 127, 0, 0, 1, 1, 2])),
            ("socks5://h", socks5(&[[4].as_slice(), &[9; 18]].concat())),
            ("socks5://h", socks5(b"\x03\x05proxy\x01\x02")),
            ("socks5://h", socks5(&[3, 0, 1, 2])),
            (
                "socks5://h",
                socks5(&[&[3, 255][..], &[b'x'; 255 + 2]].concat()),
            ),
            (
                "socks5://u:p@h",
                [&[5, 2, 1, 0, 5, 0, 0][..], &[1, 0, 0, 0, 0, 0, 0]].concat(),
            ),
            ("http://h", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n".to_vec()),
            ("http://h", b"HTTP/1.0 299 \n\n".to_vec()),
        ]
    }

    fn tunnel(url: &str) -> (Tunnel, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let hop = Hop::read(url, None).unwrap();
        let point = Point::of(&"127.0.0.1:258".parse().unwrap());
        let stream = Stream::new(near.into());
        (Tunnel::new(stream, &hop, &point), far)
    }

    /// What the peer behind the proxy has sent so far has to be the next that is read.
    #[track_caller]
    fn expect(tunnel: Tunnel, far: UnixStream, peer: &[u8]) {
        drop(far);
        let mut rest = vec![0; peer.len() + 1];
        let stream = tunnel.into_stream();
        let count = stream.receive(&mut rest, RecvFlags::empty()).unwrap_or(0);
        assert_eq!(&rest[..count], peer);
    }

    #[test]
    fn an_answer_may_be_split_at_each_byte_and_the_peers_bytes_stay() {
        let peer = b"\x05\0HTTP/1.1 200\r\n\r\n";
        for (url, answer) in answers() {
            for cut in 0..=answer.len() + peer.len() {
                let all = [&answer[..], peer].concat();
                let (mut tunnel, mut far) = tunnel(url);
                far.write_all(&all[..cut]).unwrap();
                let is_done = tunnel.advance().unwrap();
                assert_eq!(is_done, cut >= answer.len(), "{url} {cut}");
                far.write_all(&all[cut..]).unwrap();
                assert!(tunnel.advance().unwrap(), "{url} {cut}");
                far.set_nonblocking(true).unwrap();
                let _ = far.read(&mut [0; 1024]);
                expect(tunnel, far, peer);
            }
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_at_any_byte_is_no_connection() {
        for (url, answer) in answers() {
            for cut in 0..answer.len() {
                let (mut tunnel, mut far) = tunnel(url);
                far.write_all(&answer[..cut]).unwrap();
                assert!(!tunnel.advance().unwrap(), "{url} {cut}");
                far.shutdown(Shutdown::Write).unwrap();
                let refusal = tunnel.advance().unwrap_err();
                assert_eq!(refusal.why, "the proxy has closed the connection");
                assert_eq!(refusal.exit, Exit::Network);
            }
        }
    }

    #[test]
    fn what_is_no_answer_of_http_is_refused_at_its_first_byte() {
        for (bytes, is_refused) in [
            ("Welcome!", true),
            ("HTTP-", true),
            ("h", true),
            ("HTTP/", false),
            ("HTTP/1.1 20", false),
            ("", false),
        ] {
            let (mut tunnel, mut far) = tunnel("http://h");
            far.write_all(bytes.as_bytes()).unwrap();
            assert_eq!(tunnel.advance().is_err(), is_refused, "{bytes}");
        }
    }

    #[test]
    fn an_answer_may_come_byte_by_byte() {
        for (url, answer) in answers() {
            let (mut tunnel, mut far) = tunnel(url);
            for (index, byte) in answer.iter().enumerate() {
                assert!(!tunnel.advance().unwrap(), "{url} {index}");
                far.write_all(&[*byte]).unwrap();
            }
            assert!(tunnel.advance().unwrap(), "{url}");
            far.set_nonblocking(true).unwrap();
            let _ = far.read(&mut [0; 1024]);
            expect(tunnel, far, b"");
        }
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line() {
        assert_eq!(end_of_head(b"a\r\nb\r\n\r\nrest\n\n"), Some(8));
        assert_eq!(end_of_head(b"a\n\nrest"), Some(3));
        assert_eq!(end_of_head(b"a\r\n\r"), None);
        assert_eq!(end_of_head(b""), None);
    }

    proptest! {
        #[test]
        fn any_answer_ends_the_dialogue_and_takes_no_byte_more(
            which in 0_usize..9,
            cut in 0_usize..300,
            noise: Vec<u8>,
            rest: Vec<u8>,
        ) {
            let (url, answer) = answers().swap_remove(which);
            // Noise may follow the beginning of a right answer.
            let begin = &answer[..cut.min(answer.len())];
            let (mut tunnel, mut far) = tunnel(url);
            far.write_all(&[begin, &noise, &rest].concat()).unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            let is_done = loop {
                match tunnel.advance() {
                    Ok(false) => {}
                    result => break result.is_ok(),
                }
            };
            // What is left is the end of what was sent.
            let mut left = Vec::new();
            let mut near = File::from(tunnel.into_stream().as_fd().try_clone_to_owned().unwrap());
            near.read_to_end(&mut left).unwrap();
            let all = [begin, &noise, &rest].concat();
            prop_assert!(all.ends_with(&left));
            if is_done && begin.len() == answer.len() {
                prop_assert_eq!(left.len(), noise.len() + rest.len());
            }
        }
    }
}
