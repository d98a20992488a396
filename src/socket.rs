//! Sockets with their options set: before bind and before connect, where that matters.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::exit::cause;

/// Where a client's packets come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SourceArgs {
    /// Local address to send from
    #[arg(long, value_name = "IP")]
    pub source: Option<IpAddr>,
    /// Local port to send from
    #[arg(long, value_name = "N", value_parser = crate::address::port)]
    pub source_port: Option<u16>,
}

impl SourceArgs {
    /// Whether `target` is of the family that packets are to be sent from.
    pub fn suits(&self, target: &SocketAddr) -> bool {
        self.source
            .is_none_or(|source| source.is_ipv4() == target.is_ipv4())
    }

    /// Binds an unconnected socket that is going to talk to `target`.
    fn apply(&self, socket: &Socket, target: &SocketAddr) -> io::Result<()> {
        if self.source.is_none() && self.source_port.is_none() {
            return Ok(());
        }
        let any: IpAddr = match target {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        if target.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if self.source_port.is_some() && socket.r#type()? == Type::STREAM {
            // The port of a connection that has just ended can be used again (TIME_WAIT).
            socket.set_reuse_address(true)?;
        }
        let local = SocketAddr::new(self.source.unwrap_or(any), self.source_port.unwrap_or(0));
        socket
            .bind(&local.into())
            .map_err(|error| io::Error::new(error.kind(), format!("{self}: {}", cause(&error))))
    }
}

impl fmt::Display for SourceArgs {
    /// As typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.source, self.source_port) {
            (Some(ip), Some(port)) => write!(f, "--source {ip} --source-port {port}"),
            (Some(ip), None) => write!(f, "--source {ip}"),
            (None, Some(port)) => write!(f, "--source-port {port}"),
            (None, None) => Ok(()),
        }
    }
}

/// A TCP socket that is about to connect to `target`, and does not block.
pub fn tcp_client(target: &SocketAddr, source: &SourceArgs) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(*target),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    source.apply(&socket, target)?;
    Ok(socket)
}

/// A UDP socket that is connected to `target`, so that it hears of ICMP errors and of nobody else.
/// It does not block.
pub fn udp_client(target: &SocketAddr, source: &SourceArgs) -> io::Result<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(
            Domain::for_address(*target),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        source.apply(&socket, target)?;
        socket.connect(&(*target).into())?;
        Ok(socket.into())
    };
    let socket = open()?;
    if source.source_port.is_none() && socket.local_addr()? == *target {
        // Nobody listens on a port of this machine, and the system chose that port as our own: we
        // would be answered by ourselves. While this socket holds it, the next gets another.
        return open();
    }
    Ok(socket)
}

/// Whether packets to this address stay on this machine.
pub fn is_local(mut address: SocketAddr) -> bool {
    address.set_port(0);
    match UdpSocket::bind(address) {
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
        Ok(_) => true,
    }
}

/// A TCP socket that listens, and whose accept does not block. An IPv6 one takes no IPv4
/// connections.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = bound(address, Type::STREAM, Protocol::TCP)?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A UDP socket for a server; it does not block.
pub fn udp_server(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = bound(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Sets up a connection that was just accepted; on some systems it is as non-blocking as its
/// listener.
pub fn accepted(stream: &std::net::TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_nonblocking(false)?;
    socket.set_tcp_nodelay(true)
}

fn bound(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // Before bind: or `[::]` takes IPv4 too, and collides with `0.0.0.0`.
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // On unix: a server that is started again need not wait for old connections to be forgotten
        // (TIME_WAIT).
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
