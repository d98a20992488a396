//! UDP sockets of a test, and datagrams that come and go.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use super::{DEADLINE, Server};

/// A UDP socket of the test, on a free port of 127.0.0.1, that does not wait for ever.
pub fn mailbox() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// A UDP port that nobody listens on and that nobody else is given: what others than its peer, which
/// is itself, send to it is unreachable.
pub fn closed_port() -> UdpSocket {
    let socket = mailbox();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    socket
}

pub fn address(socket: &UdpSocket) -> String {
    socket.local_addr().unwrap().to_string()
}

/// Where datagrams for `server` are sent to.
pub fn target(server: &Server) -> SocketAddr {
    server.address().parse().unwrap()
}

/// Waits for a datagram, and returns it and where it is from.
#[track_caller]
pub fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((count, source)) => {
                buffer.truncate(count);
                return (buffer, source);
            }
            // socket(7): with a time limit it is not restarted after a signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("a datagram should have come: {error}"),
        }
    }
}

/// Waits for a datagram, which has to be `payload`, and returns where it is from.
#[track_caller]
pub fn expect(socket: &UdpSocket, payload: impl AsRef<[u8]>) -> SocketAddr {
    let (received, source) = receive(socket);
    let payload = payload.as_ref();
    assert!(
        received == payload,
        "the datagram should be \"{}\", not \"{}\"",
        payload.escape_ascii(),
        received.escape_ascii()
    );
    source
}

/// Nothing has come; for when whoever could have sent something has ended.
#[track_caller]
pub fn expect_nothing(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    let received = socket.recv(&mut [0; 1]);
    assert_eq!(received.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[track_caller]
pub fn send(socket: &UdpSocket, payload: impl AsRef<[u8]>, target: SocketAddr) {
    let payload = payload.as_ref();
    assert_eq!(socket.send_to(payload, target).unwrap(), payload.len());
}

/// A client that hears nothing that does not come from `target`.
#[cfg(target_os = "linux")]
pub fn connected(local: &str, target: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind(local).unwrap();
    client.connect(target).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

/// What `client` gets for `x`.
#[cfg(target_os = "linux")]
#[track_caller]
pub fn answer_to_x(client: &UdpSocket) -> String {
    client.send(b"x").unwrap();
    let mut buffer = [0; 100];
    let size = client.recv(&mut buffer).expect("no answer");
    String::from_utf8_lossy(&buffer[..size]).into_owned()
}
