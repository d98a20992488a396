//! Linux passes headers, and the source address of an answer, in control messages.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::libc::{c_int, in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use rustix::net::RecvFlags;

use super::Headers;

/// Makes `receive` tell the destination and the hop limit, where wanted, of datagrams that arrive from
/// now on.
pub fn ask(
    socket: &impl AsFd,
    is_ipv4: bool,
    destination: bool,
    hop_limit: bool,
) -> io::Result<()> {
    if is_ipv4 {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &destination)?;
        setsockopt(socket, sockopt::Ipv4RecvTtl, &hop_limit)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &destination)?;
        setsockopt(socket, sockopt::Ipv6RecvHopLimit, &hop_limit)?;
    }
    Ok(())
}

/// As `recv_from`, with the headers. `port` is the socket's; `flags` are those of recvmsg(2).
pub fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    port: u16,
    flags: RecvFlags,
) -> io::Result<(usize, SocketAddr, Headers)> {
    let mut control = cmsg_space!(in6_pktinfo, c_int);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::from_bits_retain(flags.bits().cast_signed());
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let source = message.address.as_ref().and_then(standard);
    let (mut local, mut hop_limit, mut destination) = (None, None, None);
    for control in message.cmsgs()? {
        match control {
            // ip(7): the address that an answer should come from, also after a datagram to a group.
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let ip = Ipv4Addr::from_bits(u32::from_be(info.ipi_spec_dst.s_addr));
                local = Some(SocketAddrV4::new(ip, port).into());
                let ip = Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr));
                destination = Some(IpAddr::V4(ip));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                destination = Some(IpAddr::V6(ip));
                let zone = if ip.is_unicast_link_local() {
                    info.ipi6_ifindex
                } else {
                    0
                };
                local = (!ip.is_multicast()).then(|| SocketAddrV6::new(ip, port, 0, zone).into());
            }
            ControlMessageOwned::Ipv4Ttl(limit) | ControlMessageOwned::Ipv6HopLimit(limit) => {
                hop_limit = u8::try_from(limit).ok();
            }
            _ => {}
        }
    }
    let source = source.ok_or(io::ErrorKind::InvalidData)?;
    let to_group = destination.is_some_and(|ip| ip.is_multicast());
    let headers = Headers {
        local,
        destination,
        // RFC 1112: a datagram to a group starts with 1, which says nothing of its way.
        hop_limit: hop_limit.filter(|_| !to_group),
    };
    Ok((message.bytes, source, headers))
}

/// As `send_to`, from `local` and with the hop limit `hops`, where they are given.
pub fn send(
    socket: &UdpSocket,
    payload: &[u8],
    peer: SocketAddr,
    local: Option<SocketAddr>,
    hops: Option<u8>,
) -> io::Result<usize> {
    if local.is_none() && hops.is_none() {
        return socket.send_to(payload, peer);
    }
    let (v4, v6);
    let from = match local {
        Some(SocketAddr::V4(local)) => {
            v4 = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr {
                    s_addr: local.ip().to_bits().to_be(),
                },
                ipi_addr: in_addr { s_addr: 0 },
            };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(SocketAddr::V6(local)) => {
            v6 = in6_pktinfo {
                ipi6_addr: in6_addr {
                    s6_addr: local.ip().octets(),
                },
                ipi6_ifindex: local.scope_id(),
            };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
        None => None,
    };
    let hops = hops.map(c_int::from);
    let hops = hops.as_ref().map(|hops| match peer {
        SocketAddr::V4(_) => ControlMessage::Ipv4Ttl(hops),
        SocketAddr::V6(_) => ControlMessage::Ipv6HopLimit(hops),
    });
    let (both, one);
    let control: &[ControlMessage<'_>] = match (from, hops) {
        (Some(from), Some(hops)) => {
            both = [from, hops];
            &both
        }
        (from, hops) => {
            one = from.or(hops);
            one.as_slice()
        }
    };
    let count = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(payload)],
        control,
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(peer)),
    )?;
    Ok(count)
}

fn standard(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in();
    let v4 = v4.map(|address| SocketAddr::V4((*address).into()));
    v4.or_else(|| {
        let v6 = address.as_sockaddr_in6()?;
        Some(SocketAddr::V6((*v6).into()))
    })
}
