//! Opens sockets with their options set before bind and connect: later is too late for some.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, SockRef, Socket, Type};

use super::multicast::{Group, GroupArgs, hear_own_groups_only};
use super::options::{SocketArgs, SourceArgs, TcpSocketArgs};
use super::peer::Endpoint;

/// A non-blocking socket that is ready to connect to `target`.
pub fn client(
    target: &Endpoint,
    source: &SourceArgs,
    options: &TcpSocketArgs,
) -> io::Result<Socket> {
    let Endpoint::Inet(target) = target else {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        options.apply_to_unix(&socket)?;
        return Ok(socket);
    };
    let socket = Socket::new(Domain::for_address(*target), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    options.apply(&socket, target)?;
    source.apply(&socket, target)?;
    Ok(socket)
}

/// A non-blocking UDP socket for `target`. It is connected, so it reports ICMP errors and receives
/// from `target` alone; for a group it is unconnected, since any member may answer.
pub fn udp_client(
    target: &SocketAddr,
    source: &SourceArgs,
    options: &SocketArgs,
    group: &GroupArgs,
) -> io::Result<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(*target), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        options.apply(&socket, target)?;
        group.apply(&socket, target)?;
        source.apply(&socket, target)?;
        if !group.is_group(target) {
            let connected = socket.connect(&(*target).into());
            connected.map_err(|error| with_advice(target, error))?;
        }
        Ok(socket.into())
    };
    let socket = open()?;
    if source.source_port.is_none() && socket.local_addr()? == *target {
        // The kernel chose the target port, on which nobody listens, as our own: this socket would
        // answer itself. While it holds the port the next socket gets another.
        return open();
    }
    Ok(socket)
}

/// Explains the kernel's "invalid argument" for a link-local address without a zone.
pub fn with_advice(target: &SocketAddr, error: io::Error) -> io::Error {
    match target {
        SocketAddr::V6(v6)
            if error.kind() == io::ErrorKind::InvalidInput
                && v6.ip().is_unicast_link_local()
                && v6.scope_id() == 0 =>
        {
            let (ip, port) = (v6.ip(), v6.port());
            let advice =
                format!("a link-local address needs its interface: write [{ip}%eth0]:{port}");
            io::Error::new(error.kind(), advice)
        }
        _ => error,
    }
}

/// Whether this machine has the address. Only such an address can be bound.
pub fn is_local(mut address: SocketAddr) -> bool {
    address.set_port(0);
    match UdpSocket::bind(address) {
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
        Ok(_) => true,
    }
}

/// The address that datagrams to `target` leave from, as the system's routes have it. Sends nothing.
pub fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// A blocking UDP socket for a server, and the size of its receive buffer. The system is asked for `room`
/// bytes. The socket has joined those of `groups` that it can receive. `prepare` sets more options
/// before the first datagram can arrive.
pub fn udp_server(
    address: SocketAddr,
    options: &SocketArgs,
    groups: &[Group],
    room: usize,
    prepare: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<(UdpSocket, usize)> {
    let socket = unbound(address, Type::DGRAM)?;
    options.apply(&socket, &address)?;
    let room = options.ask_for_room(&socket, room)?;
    prepare(&socket)?;
    let own = || groups.iter().filter(|group| group.suits(&address));
    if own().next().is_some() {
        // All receivers of a group on one machine use the same port.
        socket.set_reuse_address(true)?;
    }
    hear_own_groups_only(&socket, &address);
    socket.bind(&address.into())?;
    for group in own() {
        group.join(&socket)?;
    }
    Ok((socket.into(), room))
}

/// As [`udp_server`], of a socket that another program has opened.
pub fn inherited_udp_server(
    socket: UdpSocket,
    options: &SocketArgs,
    room: usize,
    prepare: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<(UdpSocket, usize)> {
    let socket = Socket::from(socket);
    socket.set_nonblocking(false)?;
    let room = options.ask_for_room(&socket, room)?;
    prepare(&socket)?;
    Ok((socket.into(), room))
}

pub(super) fn unbound(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        // Otherwise `[::]` takes IPv4 too, and collides with `0.0.0.0`.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// The hop limit (IPv4: TTL) of unicast packets from `socket`, which is bound to `local`.
pub fn hop_limit(socket: &UdpSocket, local: &SocketAddr) -> io::Result<u8> {
    let hops = match local {
        SocketAddr::V4(_) => socket.ttl()?,
        SocketAddr::V6(_) => SockRef::from(socket).unicast_hops_v6()?,
    };
    Ok(u8::try_from(hops).unwrap_or(u8::MAX))
}

/// Sets what [`hop_limit`] returns.
pub fn set_hop_limit(socket: &UdpSocket, local: &SocketAddr, hops: u8) -> io::Result<()> {
    match local {
        SocketAddr::V4(_) => socket.set_ttl(hops.into()),
        SocketAddr::V6(_) => SockRef::from(socket).set_unicast_hops_v6(hops.into()),
    }
}
