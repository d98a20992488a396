//! UDP sockets of a test: what they send, receive and expect.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use super::{DEADLINE, Server};

/// A UDP socket on a free port of 127.0.0.1. A read fails after [`DEADLINE`].
pub fn mailbox() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// A UDP port that is closed, and that the kernel gives to nobody else.
/// Its socket is connected to itself, so the kernel refuses the datagrams of all others.
pub fn closed_port() -> UdpSocket {
    let socket = mailbox();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    socket
}

pub fn address(socket: &UdpSocket) -> String {
    socket.local_addr().unwrap().to_string()
}

/// The address that `server` listens on.
pub fn target(server: &Server) -> SocketAddr {
    server.address().parse().unwrap()
}

/// Waits for a datagram. Returns it and its source.
#[track_caller]
pub fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((count, source)) => {
                buffer.truncate(count);
                return (buffer, source);
            }
            // socket(7): with a timeout the kernel does not restart the call after a signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("a datagram should have come: {error}"),
        }
    }
}

/// Waits for a datagram, which must be `payload`. Returns its source.
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

/// Asserts that no datagram has arrived. Call it when every sender has ended.
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

/// A client socket that receives from `target` only.
#[cfg(target_os = "linux")]
pub fn connected(local: &str, target: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind(local).unwrap();
    client.connect(target).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

/// Sends `x` and returns the answer.
#[cfg(target_os = "linux")]
#[track_caller]
pub fn answer_to_x(client: &UdpSocket) -> String {
    client.send(b"x").unwrap();
    let mut buffer = [0; 100];
    let size = client.recv(&mut buffer).expect("no answer");
    String::from_utf8_lossy(&buffer[..size]).into_owned()
}
