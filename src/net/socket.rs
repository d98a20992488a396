//! Sockets with their options set: before bind and before connect, where that matters.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::exit::cause;
use crate::net::multicast::Group;

/// Where a client's packets come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SourceArgs {
    /// Send from the local address IP
    #[arg(long, value_name = "IP")]
    pub source: Option<IpAddr>,
    /// Send from the local port N
    #[arg(long, value_name = "N", value_parser = crate::net::address::port)]
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
        let mut local = SocketAddr::new(self.source.unwrap_or(any), self.source_port.unwrap_or(0));
        if let (SocketAddr::V6(local), SocketAddr::V6(target)) = (&mut local, target) {
            // A link-local source is on the link that leads to the target.
            local.set_scope_id(target.scope_id());
        }
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

/// Options of any socket. One that the system refuses is an error that names it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Socket options")]
pub struct SocketArgs {
    /// Use the network interface NAME
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Set the hop limit (TTL) of packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: Option<u8>,
    /// Set the DSCP: 0-63, cs0-cs7, af11-af43, ef, va, le
    #[arg(long, value_name = "NAME|N", value_parser = dscp)]
    dscp: Option<u8>,
    /// Set the size of the receive buffer
    #[arg(long, value_name = "SIZE", value_parser = buffer_size)]
    recv_buffer: Option<usize>,
    /// Set the size of the send buffer
    #[arg(long, value_name = "SIZE", value_parser = buffer_size)]
    send_buffer: Option<usize>,
    /// Let other sockets use the same address and port
    #[arg(long)]
    reuse_port: bool,
}

/// Sending to many at once.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Broadcast and multicast")]
pub struct GroupArgs {
    /// Send to a broadcast address; every receiver may answer
    #[arg(long)]
    broadcast: bool,
    /// Set the hop limit (TTL) of multicast packets [default: 1]
    #[arg(long, value_name = "N")]
    multicast_ttl: Option<u8>,
    /// Send multicast packets from the network interface NAME
    #[arg(long, value_name = "NAME")]
    multicast_interface: Option<String>,
    /// Do not deliver multicast packets on this machine
    #[arg(long)]
    no_multicast_loop: bool,
}

impl GroupArgs {
    /// Whether more than one may answer what is sent to `target`.
    pub fn is_group(&self, target: &SocketAddr) -> bool {
        target.ip().is_multicast() || (self.broadcast && target.is_ipv4())
    }

    fn apply(&self, socket: &Socket, target: &SocketAddr) -> io::Result<()> {
        let no = |what| {
            Err(io::Error::other(format!(
                "{} is no {what} address",
                target.ip()
            )))
        };
        if self.broadcast {
            let set = match target {
                SocketAddr::V4(address) if !address.ip().is_multicast() => {
                    socket.set_broadcast(true)
                }
                _ => no("broadcast"),
            };
            named("--broadcast", "", set)?;
        }
        let multicast = target.ip().is_multicast();
        if let Some(ttl) = self.multicast_ttl {
            let set = match target {
                _ if !multicast => no("multicast"),
                SocketAddr::V4(_) => socket.set_multicast_ttl_v4(ttl.into()),
                SocketAddr::V6(_) => socket.set_multicast_hops_v6(ttl.into()),
            };
            named("--multicast-ttl", ttl, set)?;
        }
        if let Some(name) = &self.multicast_interface {
            let set = if multicast {
                send_multicast_from(socket, target, name)
            } else {
                no("multicast")
            };
            named("--multicast-interface", name, set)?;
        }
        if self.no_multicast_loop {
            let set = match target {
                _ if !multicast => no("multicast"),
                SocketAddr::V4(_) => socket.set_multicast_loop_v4(false),
                SocketAddr::V6(_) => socket.set_multicast_loop_v6(false),
            };
            named("--no-multicast-loop", "", set)?;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn send_multicast_from(socket: &Socket, target: &SocketAddr, name: &str) -> io::Result<()> {
    use std::net::Ipv4Addr;
    let index = rustix::net::netdevice::name_to_index(socket, name)?;
    match target {
        SocketAddr::V4(_) => rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
            socket,
            &Ipv4Addr::UNSPECIFIED,
            &Ipv4Addr::UNSPECIFIED,
            index,
        )?,
        SocketAddr::V6(_) => socket.set_multicast_if_v6(index)?,
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn send_multicast_from(_socket: &Socket, _target: &SocketAddr, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Options of a TCP socket.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TcpSocketArgs {
    #[command(flatten)]
    any: SocketArgs,
    /// Limit TCP segments to N bytes, in both directions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    mss: Option<u16>,
    /// Probe a silent peer after TIME (whole seconds)
    #[arg(long, value_name = "TIME", value_parser = whole_seconds)]
    keepalive: Option<Duration>,
}

impl SocketArgs {
    /// Sets the options on a socket for `address` that is neither bound nor connected: later is too
    /// late for some of them.
    fn apply(&self, socket: &Socket, address: &SocketAddr) -> io::Result<()> {
        if let Some(name) = &self.interface {
            named("--interface", name, bind_to_interface(socket, name))?;
        }
        if let Some(ttl) = self.ttl {
            let set = match address {
                SocketAddr::V4(_) => socket.set_ttl_v4(ttl.into()),
                SocketAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into()),
            };
            named("--ttl", ttl, set)?;
        }
        if let Some(dscp) = self.dscp {
            // RFC 2474: the upper six bits of the octet; the lower two are ECN's.
            let octet = u32::from(dscp) << 2;
            let set = match address {
                SocketAddr::V4(_) => socket.set_tos_v4(octet),
                SocketAddr::V6(_) => socket.set_tclass_v6(octet),
            };
            named("--dscp", dscp, set)?;
        }
        if let Some(size) = self.recv_buffer {
            let set = socket.set_recv_buffer_size(size);
            let got = set.and_then(|()| socket.recv_buffer_size());
            named(
                "--recv-buffer",
                size,
                got.and_then(|got| at_least(size, got)),
            )?;
        }
        if let Some(size) = self.send_buffer {
            let set = socket.set_send_buffer_size(size);
            let got = set.and_then(|()| socket.send_buffer_size());
            named(
                "--send-buffer",
                size,
                got.and_then(|got| at_least(size, got)),
            )?;
        }
        if self.reuse_port {
            named("--reuse-port", "", socket.set_reuse_port(true))?;
        }
        Ok(())
    }
}

impl TcpSocketArgs {
    fn apply(&self, socket: &Socket, address: &SocketAddr) -> io::Result<()> {
        self.any.apply(socket, address)?;
        if let Some(mss) = self.mss {
            named("--mss", mss, socket.set_tcp_mss(mss.into()))?;
        }
        if let Some(time) = self.keepalive {
            let keepalive = TcpKeepalive::new().with_time(time).with_interval(time);
            let set = socket.set_tcp_keepalive(&keepalive);
            named("--keepalive", format_args!("{time:?}"), set)?;
        }
        Ok(())
    }
}

/// Says which option it was that the system refused.
fn named(option: &str, value: impl fmt::Display, result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| {
        let option = format!("{option} {value}");
        let message = format!("{}: {}", option.trim_end(), cause(&error));
        // Whatever it is, it is this machine's doing.
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

/// socket(7): a size over the system's limit is silently cut down.
fn at_least(asked: usize, reported: usize) -> io::Result<()> {
    let got = granted(reported);
    if got < asked {
        return Err(io::Error::other(format!(
            "the system allows no more than {got} bytes"
        )));
    }
    Ok(())
}

/// socket(7): Linux reports twice the size, as it needs room for its own.
#[cfg(target_os = "linux")]
fn granted(reported: usize) -> usize {
    reported / 2
}

#[cfg(not(target_os = "linux"))]
fn granted(reported: usize) -> usize {
    reported
}

/// A size that the system's calls can take: they take an `int`.
fn buffer_size(text: &str) -> Result<usize, String> {
    let size = crate::units::size(text)?;
    if i32::try_from(size).is_err() {
        return Err(format!(
            "'{text}' is too large: a socket buffer is smaller than 2G"
        ));
    }
    Ok(size)
}

#[cfg(target_os = "linux")]
fn bind_to_interface(socket: &Socket, name: &str) -> io::Result<()> {
    socket.bind_device(Some(name.as_bytes()))
}

#[cfg(not(target_os = "linux"))]
fn bind_to_interface(_socket: &Socket, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A class of RFC 2474 (cs), RFC 2597 (af), RFC 3246 (ef), RFC 5865 (va) or RFC 8622 (le).
fn dscp(text: &str) -> Result<u8, String> {
    let name = text.to_ascii_lowercase();
    let class = match name.as_bytes() {
        b"be" | b"df" | b"default" => Some(0),
        b"ef" => Some(46),
        b"va" => Some(44),
        b"le" => Some(1),
        [b'c', b's', class @ b'0'..=b'7'] => Some((class - b'0') * 8),
        [b'a', b'f', class @ b'1'..=b'4', drop @ b'1'..=b'3'] => {
            Some((class - b'0') * 8 + (drop - b'0') * 2)
        }
        _ => name.parse().ok().filter(|number| *number < 64),
    };
    class.ok_or_else(|| {
        format!(
            "'{text}' is not a service class; write 0 to 63, cs0 to cs7, af11 to af43, ef, va or le"
        )
    })
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time = crate::units::positive_duration(text)?;
    if time.subsec_nanos() > 0 {
        return Err(format!("'{text}' is not a whole number of seconds"));
    }
    Ok(time)
}

/// A TCP socket that is about to connect to `target`, and does not block.
pub fn tcp_client(
    target: &SocketAddr,
    source: &SourceArgs,
    options: &TcpSocketArgs,
) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(*target),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    options.apply(&socket, target)?;
    source.apply(&socket, target)?;
    Ok(socket)
}

/// A UDP socket that is connected to `target`, so that it hears of ICMP errors and of nobody else;
/// unless that is a group, whose members answer from addresses of their own. It does not block.
pub fn udp_client(
    target: &SocketAddr,
    source: &SourceArgs,
    options: &SocketArgs,
    group: &GroupArgs,
) -> io::Result<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(
            Domain::for_address(*target),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
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
        // Nobody listens on a port of this machine, and the system chose that port as our own: we
        // would be answered by ourselves. While this socket holds it, the next gets another.
        return open();
    }
    Ok(socket)
}

/// Says of an address that is on every link what the system's "invalid argument" does not.
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

/// Whether packets to this address stay on this machine.
pub fn is_local(mut address: SocketAddr) -> bool {
    address.set_port(0);
    match UdpSocket::bind(address) {
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
        Ok(_) => true,
    }
}

/// A TCP socket that listens, and whose connections send without delay (`TCP_NODELAY`). An IPv6 one
/// takes no IPv4 connections.
pub fn listen(
    address: SocketAddr,
    backlog: i32,
    options: &TcpSocketArgs,
) -> io::Result<TcpListener> {
    let socket = unbound(address, Type::STREAM, Protocol::TCP)?;
    // Its connections inherit all options (tcp(7)).
    options.apply(&socket, &address)?;
    socket.set_tcp_nodelay(true)?;
    // On unix: a server that is started again need not wait for old connections to be forgotten
    // (TIME_WAIT).
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// A UDP socket for a server, which has joined those of `groups` that it can hear of; it does not
/// block. `prepare` is given it before it hears anything.
pub fn udp_server(
    address: SocketAddr,
    options: &SocketArgs,
    groups: &[Group],
    prepare: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<UdpSocket> {
    let socket = unbound(address, Type::DGRAM, Protocol::UDP)?;
    options.apply(&socket, &address)?;
    prepare(&socket)?;
    let own = || groups.iter().filter(|group| group.suits(&address));
    if own().next().is_some() {
        // All receivers of a machine that have joined a group use the same port.
        socket.set_reuse_address(true)?;
    }
    hear_own_groups_only(&socket, &address);
    socket.bind(&address.into())?;
    for group in own() {
        named("--join", group, join(&socket, group))?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn join(socket: &Socket, group: &Group) -> io::Result<()> {
    let index = group.interface_index()?;
    let joined = match group.ip {
        IpAddr::V4(ip) => socket.join_multicast_v4_n(&ip, &InterfaceIndexOrAddress::Index(index)),
        IpAddr::V6(ip) => socket.join_multicast_v6(&ip, index),
    };
    match joined {
        // It has joined already: the option was given twice.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        Err(error) if index == 0 && Errno::from_io_error(&error) == Some(Errno::NODEV) => {
            let message = format!("no route leads there; name an interface: {group}%eth0");
            Err(io::Error::other(message))
        }
        joined => joined,
    }
}

/// ip(7): otherwise a socket for any address hears of every group that anybody on this machine has
/// joined.
#[cfg(target_os = "linux")]
fn hear_own_groups_only(socket: &Socket, address: &SocketAddr) {
    // A kernel that does not know the option keeps to the old ways; nothing depends on it.
    let _ = match address {
        SocketAddr::V4(_) => socket.set_multicast_all_v4(false),
        SocketAddr::V6(_) => socket.set_multicast_all_v6(false),
    };
}

/// Elsewhere that is so by default.
#[cfg(not(target_os = "linux"))]
fn hear_own_groups_only(_socket: &Socket, _address: &SocketAddr) {}

/// Whether `stop_accepting` wakes those who block in accept(2).
pub const ACCEPTING_CAN_BE_STOPPED: bool = cfg!(target_os = "linux");

/// From now on accept(2) fails with EINVAL, also where it blocks already, and who connects is
/// refused. Elsewhere than on Linux it does nothing.
pub fn stop_accepting(listener: &TcpListener) {
    let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Both);
}

fn unbound(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // Before bind: or `[::]` takes IPv4 too, and collides with `0.0.0.0`.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_send_without_delay() {
        let listener = listen(
            (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            1,
            &TcpSocketArgs::default(),
        );
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(stream.nodelay().unwrap());
    }

    #[test]
    fn service_classes_have_names_and_numbers() {
        let cases = [
            ("cs0", 0),
            ("CS6", 48),
            ("af11", 10),
            ("af43", 38),
            ("ef", 46),
            ("le", 1),
            ("63", 63),
        ];
        for (text, class) in cases {
            assert_eq!(dscp(text), Ok(class), "{text}");
        }
        for text in ["", "64", "-1", "cs8", "af14", "af50", "xx"] {
            assert!(dscp(text).is_err(), "{text}");
        }
    }
}
