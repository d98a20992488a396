//! The largest packet that a path carries in one piece (path MTU): RFC 1191, RFC 8201. Linux only.

use std::io;
use std::net::{SocketAddr, UdpSocket};

/// The size of the headers before the payload of a datagram to `address`: IP without options, and UDP.
pub fn headers(address: &SocketAddr) -> usize {
    if address.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

/// Makes datagrams to `address` leave in one piece, with "don't fragment", also if the kernel knows a
/// smaller path MTU. One that is too large for the interface is EMSGSIZE.
#[cfg(target_os = "linux")]
pub fn forbid_fragments(socket: &UdpSocket, address: &SocketAddr) -> io::Result<()> {
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    };
    if address.is_ipv4() {
        set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?;
    } else {
        set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE)?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub fn forbid_fragments(_socket: &UdpSocket, _address: &SocketAddr) -> io::Result<()> {
    let message = "netkit can forbid fragments on Linux only";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// What the kernel believes the path MTU of a connected socket to be: that of the interface, or a
/// smaller one that a router has told by ICMP.
#[cfg(target_os = "linux")]
pub fn believed(socket: &UdpSocket, address: &SocketAddr) -> io::Result<usize> {
    use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
    let mtu = if address.is_ipv4() {
        ip_mtu(socket)?
    } else {
        ipv6_mtu(socket)?
    };
    Ok(usize::try_from(mtu).unwrap_or(usize::MAX))
}

#[cfg(not(target_os = "linux"))]
pub fn believed(_socket: &UdpSocket, _address: &SocketAddr) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
