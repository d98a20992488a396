//! A socket that listens for streams: TCP or Unix.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd};

use socket2::{Domain, Socket, Type};

use super::options::TcpSocketArgs;
use super::peer::{Endpoint, Peer};
use super::socket::unbound;
use super::stream::Stream;
use super::unix::{SocketFile, UnixName};

/// It stops listening when dropped. The file of a Unix socket goes with it.
#[derive(Debug)]
pub struct Listener {
    /// Removed while the socket is open, so that the file system cannot give its number to another.
    _file: Option<SocketFile>,
    socket: Socket,
}

impl Listener {
    /// Listens for TCP connections. They inherit its options (tcp(7)), `TCP_NODELAY` among them. An
    /// IPv6 socket takes no IPv4 connections.
    pub fn tcp(address: SocketAddr, backlog: i32, options: &TcpSocketArgs) -> io::Result<Self> {
        let socket = unbound(address, Type::STREAM)?;
        options.apply(&socket, &address)?;
        socket.set_tcp_nodelay(true)?;
        // A server that is started again need not wait for old connections in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(Self {
            socket,
            _file: None,
        })
    }

    /// Listens on a Unix socket. Its file gets `mode`. An abstract name has no mode.
    pub fn unix(
        name: &UnixName,
        backlog: i32,
        mode: u32,
        options: &TcpSocketArgs,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        options.apply_to_unix(&socket)?;
        let listen = |socket: &Socket| socket.listen(backlog);
        let file = match name {
            UnixName::Path(path) => Some(SocketFile::bind(&socket, path, mode, listen)?),
            UnixName::Abstract(_) => {
                socket.bind(&name.address()?)?;
                listen(&socket)?;
                None
            }
        };
        Ok(Self {
            socket,
            _file: file,
        })
    }

    /// A socket that another program has opened. Its file, if it has one, is not ours. A socket that does
    /// not listen stays open: if its number is wrong, it belongs to another part of this process.
    pub fn inherited(fd: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(fd);
        if !listens(&socket)? {
            let _ = socket.into_raw_fd();
            return Err(io::ErrorKind::InvalidInput.into());
        }
        socket.set_nonblocking(false)?;
        if socket.local_addr()?.as_socket().is_some() {
            socket.set_tcp_nodelay(true)?;
        }
        Ok(Self {
            _file: None,
            socket,
        })
    }

    /// Accepts a connection: a blocking stream, and its peer. Blocks if this does.
    pub fn accept(&self) -> io::Result<(Stream, Peer)> {
        let (socket, address) = self.socket.accept()?;
        let peer = match address.as_socket() {
            Some(address) => Peer::Inet(address),
            None => Peer::Unix(super::stream::process(&socket)),
        };
        Ok((Stream::new(socket), peer))
    }

    pub fn endpoint(&self) -> io::Result<Endpoint> {
        let address = self.socket.local_addr()?;
        Endpoint::of(&address).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    /// Makes accept(2) fail with EINVAL, also one that blocks already, and refuses new connections.
    /// Does so on Linux only.
    pub fn stop_accepting(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

#[cfg(target_os = "linux")]
fn listens(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// Elsewhere accept(2) fails on one that does not.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn listens(_socket: &Socket) -> io::Result<bool> {
    Ok(true)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_send_without_delay() {
        let address = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let listener = Listener::tcp(address, 1, &TcpSocketArgs::default()).unwrap();
        let address = listener.endpoint().unwrap().inet().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (socket, _) = listener.socket.accept().unwrap();
        assert!(socket.tcp_nodelay().unwrap());
    }
}
