//! A bare server of netkit's shape: a thread for each connection, `recv`, `send`, nothing else.
//!
//! It takes every read for one message of the `hello` protocol, as the rows send them. It logs,
//! limits and counts nothing, so it shows what the shape itself costs.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use socket2::{Domain, Socket, Type};

/// The argument that makes this program the server.
pub const ARGUMENT: &str = "--bare-tcp-server";

/// Small, so that thousands of threads fit.
const STACK: usize = 64 << 10;

/// Serves until it is killed, or until the system has no more descriptors or threads.
pub fn serve(port: u16) -> anyhow::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    // netkit's backlog; std's is 128, and the load opens 256 connections at a time.
    socket.listen(1024)?;
    let listener = TcpListener::from(socket);
    loop {
        let (stream, _) = listener.accept()?;
        let thread = thread::Builder::new().stack_size(STACK);
        thread.spawn(move || converse(stream))?;
    }
}

fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"Welcome!")?;
    let mut buffer = [0; 7 + 1024 + 1];
    buffer[..7].copy_from_slice(b"Hello, ");
    loop {
        let end = 7 + stream.read(&mut buffer[7..7 + 1024])?;
        if matches!(&buffer[7..end], b"" | b"exit") {
            return Ok(());
        }
        buffer[end] = b'!';
        stream.write_all(&buffer[..=end])?;
    }
}
