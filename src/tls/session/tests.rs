//! What two sessions make of cuts and of new keys, without a process.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::super::args::{ClientTlsArgs, OwnArgs, ServerTlsArgs};
use super::super::client::Connector;
use super::super::server::Acceptor;
use super::*;

/// Both ends of TLS, and the socket that each of them leads to.
struct Pair {
    client: (Session, UnixStream),
    server: (Session, UnixStream),
}

struct Ends(Connector, Acceptor);

impl Ends {
    fn new() -> Self {
        let client = ClientTlsArgs {
            tls_insecure: true,
            ..ClientTlsArgs::default()
        };
        let connector = Connector::new(&client, Deadline::NEVER).unwrap();
        Self(
            connector,
            Acceptor::new(&ServerTlsArgs::default(), &[]).unwrap(),
        )
    }

    fn pair(&self) -> Pair {
        let [client, server] = [(); 2].map(|()| {
            let (socket, far) = UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            (Arc::new(socket), far)
        });
        Pair {
            client: (self.0.begin(client.0, "localhost").unwrap(), client.1),
            server: (self.1.begin(server.0).unwrap(), server.1),
        }
    }
}

/// Moves what there is from one socket to the other, until `most` bytes have `passed`. Then, or when
/// `from` has ended, `to` ends.
fn pass(mut from: &UnixStream, mut to: &UnixStream, passed: &mut usize, most: usize) {
    let mut buffer = [0; 4096];
    let room = buffer.len().min(most - *passed);
    if room == 0 {
        to.shutdown(Shutdown::Write).unwrap();
        return;
    }
    match from.read(&mut buffer[..room]) {
        Ok(0) => to.shutdown(Shutdown::Write).unwrap(),
        Ok(count) => {
            to.write_all(&buffer[..count]).unwrap();
            *passed += count;
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
}

const SENT: &[u8] = b"all of it";

/// How a connection is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Fin,
    Reset,
}

impl Ends {
    /// A side of its own, and the far end of its socket. TCP, as only that has resets.
    fn side(&self, is_client: bool, listener: &TcpListener) -> (Session, TcpStream) {
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        far.set_nodelay(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let socket = Arc::new(socket);
        let session = if is_client {
            self.0.begin(socket, "localhost").unwrap()
        } else {
            self.1.begin(socket).unwrap()
        };
        (session, far)
    }
}

/// One side sends `SENT` and its end, and the connection to the other is cut off after `most` bytes.
/// Returns what the other side reads, how that ends, and how many bytes passed.
fn cut(
    ends: &Ends,
    listener: &TcpListener,
    is_client: bool,
    (cut, most): (Cut, usize),
) -> (Vec<u8>, io::Result<()>, usize) {
    let pair = ends.pair();
    let (sender, sender_far) = if is_client { pair.client } else { pair.server };
    let (other, mut other_far) = ends.side(!is_client, listener);
    let mut passed = 0;
    let mut has_sent = false;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if !has_sent && sender.proceed().unwrap() {
            assert_eq!(sender.write(SENT).unwrap(), SENT.len());
            sender.finish().unwrap();
            has_sent = true;
        }
        let room = buffer.len().min(most - passed);
        match (&sender_far).read(&mut buffer[..room]) {
            Ok(0) if cut == Cut::Fin => other_far.shutdown(Shutdown::Write).unwrap(),
            Ok(0) => reset(&other_far),
            Ok(count) => {
                other_far.write_all(&buffer[..count]).unwrap();
                passed += count;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let read = match other.proceed() {
            Ok(true) => other.read(&mut buffer),
            Ok(false) => Err(ErrorKind::WouldBlock.into()),
            Err(error) => Err(error),
        };
        match read {
            Ok(0) => return (received, Ok(()), passed),
            Ok(count) => received.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return (received, Err(error), passed),
        }
        if let Ok(count) = other_far.read(&mut buffer) {
            (&sender_far).write_all(&buffer[..count]).unwrap();
        }
    }
}

fn reset(socket: &TcpStream) {
    set_socket_linger(socket, Some(Duration::ZERO)).unwrap();
    rustix::net::connect_unspec(socket).unwrap();
}

#[test]
fn no_connection_that_was_cut_off_after_any_byte_ends_in_order() {
    let ends = Ends::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (is_client, how) in [
        (false, Cut::Fin),
        (false, Cut::Reset),
        (true, Cut::Fin),
        (true, Cut::Reset),
    ] {
        let (received, end, whole) = cut(&ends, &listener, is_client, (how, usize::MAX));
        assert_eq!(received, SENT);
        end.unwrap();
        let expected = match how {
            Cut::Fin => ErrorKind::UnexpectedEof,
            Cut::Reset => ErrorKind::ConnectionReset,
        };
        // The length of a signature differs by a few bytes: the last ones are in question.
        let record = 5 + 2 + 1 + 16;
        for most in 1..whole - 4 {
            let (received, end, _) = cut(&ends, &listener, is_client, (how, most));
            assert_eq!(end.unwrap_err().kind(), expected, "{most} of {whole}");
            if most < whole - record - SENT.len() - 24 {
                assert!(received.is_empty(), "{most} of {whole}");
            } else if most > whole - record + 4 {
                assert_eq!(received, SENT, "{most} of {whole}");
            } else {
                assert!(received.is_empty() || received == SENT);
            }
        }
    }
}

/// A client that takes any end for one in order, after the handshake, and the far end of its socket.
fn lenient() -> (Session, TcpStream) {
    let args = ClientTlsArgs {
        tls_insecure: true,
        own: OwnArgs {
            tls_allow_cut: true,
            ..OwnArgs::default()
        },
        ..ClientTlsArgs::default()
    };
    let ends = Ends(
        Connector::new(&args, Deadline::NEVER).unwrap(),
        Ends::new().1,
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, mut far) = ends.side(true, &listener);
    let (server, mut server_far) = ends.pair().server;
    let mut buffer = [0; 4096];
    while !(client.proceed().unwrap() & server.proceed().unwrap()) {
        if let Ok(count) = far.read(&mut buffer) {
            server_far.write_all(&buffer[..count]).unwrap();
        }
        if let Ok(count) = server_far.read(&mut buffer) {
            far.write_all(&buffer[..count]).unwrap();
        }
    }
    (client, far)
}

#[test]
fn a_reset_that_a_write_meets_first_is_no_end() {
    let (client, far) = lenient();
    reset(&far);
    let error = client.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let error = client.read(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_end_before_the_reset_is_one() {
    let (client, far) = lenient();
    drop(far);
    // The first is answered with a reset, which the next one meets.
    assert_eq!(client.write(b"x").unwrap(), 1);
    while client.write(b"x").is_ok() {}
    assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn new_keys_in_both_directions_lose_nothing() {
    const LENGTH: usize = 1 << 20;
    let bytes: Vec<u8> = (0..LENGTH)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect();
    let pair = Ends::new().pair();
    let sides = [&pair.client, &pair.server];
    let mut sent = [0; 2];
    let mut received: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    let mut updates = 0;
    while received.iter().any(|all| all.len() < LENGTH) {
        for (index, (session, far)) in sides.into_iter().enumerate() {
            pass(far, &sides[1 - index].1, &mut 0, 4096);
            if session.state.borrow().engine.is_handshaking() {
                session.proceed().unwrap();
                continue;
            }
            if let Ok(count) = session.write(&bytes[sent[index]..]) {
                sent[index] += count;
                // Without data between, rustls takes but 32 of them.
                if count > 0 {
                    updates += 1;
                    let engine = &mut session.state.borrow_mut().engine;
                    engine.refresh_traffic_keys().unwrap();
                }
            }
            let mut buffer = [0; 8192];
            match session.read(&mut buffer) {
                Ok(count) => received[index].extend(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
    }
    assert!(updates > 4);
    assert!(received.iter().all(|all| *all == bytes));
}
