//! Multicast and broadcast: groups, how a server joins them, and how a client sends to them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::str::FromStr;

use rustix::io::Errno;
use socket2::{InterfaceIndexOrAddress, Socket};

use super::options::{named, set};

/// A multicast group, typed as `GROUP` or `GROUP%INTERFACE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub ip: IpAddr,
    pub interface: Option<String>,
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ip, interface) = match text.split_once('%') {
            Some((ip, interface)) => (ip, Some(interface)),
            None => (text, None),
        };
        let group = ip.parse::<IpAddr>().ok();
        let Some(ip) = group.filter(IpAddr::is_multicast) else {
            return Err(format!(
                "'{text}' is not a multicast group; write one of 224.0.0.0/4 or ff00::/8, as in \
                 239.1.2.3, 239.1.2.3%eth0 or ff02::123%eth0"
            ));
        };
        if interface == Some("") {
            return Err(format!("'{text}' names no interface; write {ip}%eth0"));
        }
        if interface.is_none() && is_of_one_link(ip) {
            return Err(format!(
                "'{text}' is a group of one link; write the interface too: {ip}%eth0"
            ));
        }
        Ok(Self {
            ip,
            interface: interface.map(str::to_owned),
        })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{}%{interface}", self.ip),
            None => write!(f, "{}", self.ip),
        }
    }
}

impl Group {
    /// The index of the interface; 0 lets the kernel choose one.
    pub fn interface_index(&self) -> io::Result<u32> {
        let Some(name) = &self.interface else {
            return Ok(0);
        };
        // getaddrinfo(3) takes an interface, by name or number, as the zone of a link-local address.
        let zone = (format!("fe80::1%{name}"), 0).to_socket_addrs();
        let index = zone.ok().into_iter().flatten().find_map(|zone| match zone {
            SocketAddr::V6(zone) => Some(zone.scope_id()),
            SocketAddr::V4(_) => None,
        });
        index.filter(|index| *index > 0).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("this machine has no interface '{name}'"),
            )
        })
    }

    /// The address to bind a socket to that receives this group alone. Its port is 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let index = self.interface_index()?;
        Ok(match self.ip {
            IpAddr::V6(ip) if is_of_one_link(self.ip) => SocketAddrV6::new(ip, 0, 0, index).into(),
            ip => SocketAddr::new(ip, 0),
        })
    }

    /// Whether a socket bound to `local` receives this group once it has joined: it must be bound
    /// to all addresses of the family, or to the group.
    pub fn suits(&self, local: &SocketAddr) -> bool {
        let same_family = local.is_ipv4() == self.ip.is_ipv4();
        let same_link = match local {
            SocketAddr::V6(local) if local.scope_id() > 0 => self
                .interface_index()
                .is_ok_and(|index| index == local.scope_id()),
            _ => true,
        };
        same_family && local.ip().is_unspecified() || local.ip() == self.ip && same_link
    }

    /// Lets `socket` receive this group.
    pub(super) fn join(&self, socket: &Socket) -> io::Result<()> {
        let index = self.interface_index()?;
        let joined = match self.ip {
            IpAddr::V4(ip) => {
                socket.join_multicast_v4_n(&ip, &InterfaceIndexOrAddress::Index(index))
            }
            IpAddr::V6(ip) => socket.join_multicast_v6(&ip, index),
        };
        let joined = match joined {
            // The option was given twice.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
            Err(error) if index == 0 && Errno::from_io_error(&error) == Some(Errno::NODEV) => {
                let message = format!("no route leads there; name an interface: {self}%eth0");
                Err(io::Error::other(message))
            }
            joined => joined,
        };
        named(format_args!("--join {self}"), joined)
    }
}

/// Whether the group has interface-local or link-local scope, and so exists on every link (RFC
/// 4291, section 2.7).
fn is_of_one_link(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if matches!(ip.segments()[0] & 0xff0f, 0xff01 | 0xff02))
}

/// How a client sends to many at once.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct GroupArgs {
    /// Send to a broadcast address; every receiver may answer
    #[arg(long)]
    broadcast: bool,
    /// Set the hop limit (TTL) of multicast packets [default: 1]
    #[arg(long, value_name = "N", value_parser = crate::units::number::<u8>(0..=255))]
    multicast_ttl: Option<u8>,
    /// Send multicast packets from the network interface NAME
    #[arg(long, value_name = "NAME")]
    multicast_interface: Option<String>,
    /// Do not deliver multicast packets on this machine
    #[arg(long)]
    no_multicast_loop: bool,
}

impl GroupArgs {
    /// Whether more than one peer may answer a datagram to `target`.
    pub fn is_group(&self, target: &SocketAddr) -> bool {
        target.ip().is_multicast() || (self.broadcast && target.is_ipv4())
    }

    /// Sets the options on a socket that is going to send to `target`.
    pub(super) fn apply(&self, socket: &Socket, target: &SocketAddr) -> io::Result<()> {
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
            named("--broadcast", set)?;
        }
        let multicast = target.ip().is_multicast();
        set("--multicast-ttl", self.multicast_ttl, |ttl| match target {
            _ if !multicast => no("multicast"),
            SocketAddr::V4(_) => socket.set_multicast_ttl_v4(ttl.into()),
            SocketAddr::V6(_) => socket.set_multicast_hops_v6(ttl.into()),
        })?;
        let interface = self.multicast_interface.as_ref();
        set("--multicast-interface", interface, |name| match target {
            _ if !multicast => no("multicast"),
            _ => send_multicast_from(socket, target, name),
        })?;
        if self.no_multicast_loop {
            let set = match target {
                _ if !multicast => no("multicast"),
                SocketAddr::V4(_) => socket.set_multicast_loop_v4(false),
                SocketAddr::V6(_) => socket.set_multicast_loop_v6(false),
            };
            named("--no-multicast-loop", set)?;
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

/// Lets a server's socket receive only the groups that it joins itself. By default a socket bound to
/// all addresses receives every group that any process on this machine has joined (ip(7)).
#[cfg(target_os = "linux")]
pub(super) fn hear_own_groups_only(socket: &Socket, address: &SocketAddr) {
    // An old kernel does not know the option; nothing depends on it.
    let _ = match address {
        SocketAddr::V4(_) => socket.set_multicast_all_v4(false),
        SocketAddr::V6(_) => socket.set_multicast_all_v6(false),
    };
}

/// Other systems do that by default.
#[cfg(not(target_os = "linux"))]
pub(super) fn hear_own_groups_only(_socket: &Socket, _address: &SocketAddr) {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_group_is_a_multicast_address_and_perhaps_an_interface() {
        for text in [
            "239.1.2.3",
            "224.0.0.251%eth0",
            "ff02::fb%2",
            "ff15::1",
            "ff0e::1%a%b",
        ] {
            let group: Group = text.parse().unwrap();
            assert_eq!(group.to_string(), text);
        }
        for text in [
            "",
            "10.0.0.1",
            "239.1.2",
            "::1",
            "ff02::fb",
            "ff12::1",
            "239.1.2.3%",
            "%eth0",
        ] {
            assert!(text.parse::<Group>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_socket_for_the_group_or_for_any_address_of_its_family_suits() {
        let group: Group = "239.1.2.3".parse().unwrap();
        assert!(group.suits(&"0.0.0.0:1".parse().unwrap()));
        assert!(!group.suits(&"[::]:1".parse().unwrap()));
        assert!(!group.suits(&"127.0.0.1:1".parse().unwrap()));
        assert!(group.suits(&"239.1.2.3:1".parse().unwrap()));
        assert!(!group.suits(&"239.1.2.4:1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_group_that_is_taken_is_shown_as_it_is_read(text in "(2[23][0-9]|ff[01][0-9a-f]|[0-9.:%]|\\PC){0,12}|ff0[0-9a-f]::[0-9a-f]{0,4}%\\PC{0,9}") {
            if let Ok(group) = text.parse::<Group>() {
                prop_assert!(group.ip.is_multicast());
                prop_assert_eq!(group.to_string().parse(), Ok(group));
            }
        }
    }
}
