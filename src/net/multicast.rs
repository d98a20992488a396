//! Multicast groups, and on which interface they are joined.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::str::FromStr;

/// A group and, if it was named, an interface; as typed, `GROUP%INTERFACE`.
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
    /// The number of the interface; 0 leaves the choice to the system.
    pub fn interface_index(&self) -> io::Result<u32> {
        let Some(name) = &self.interface else {
            return Ok(0);
        };
        // getaddrinfo(3) knows interfaces, by name or number, as zones of link-local addresses.
        let zone = (format!("fe80::1%{name}"), 0).to_socket_addrs();
        let index = zone.ok().into_iter().flatten().find_map(|zone| match zone {
            SocketAddr::V6(zone) => Some(zone.scope_id()),
            SocketAddr::V4(_) => None,
        });
        index.filter(|index| *index > 0).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("this machine has no interface '{}'", name.escape_debug()),
            )
        })
    }

    /// Where a socket that is for this group alone is bound, save for the port.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let index = self.interface_index()?;
        Ok(match self.ip {
            IpAddr::V6(ip) if is_of_one_link(self.ip) => SocketAddrV6::new(ip, 0, 0, index).into(),
            ip => SocketAddr::new(ip, 0),
        })
    }

    /// Whether a socket that is bound to `local` gets what is sent to this group, once it has
    /// joined: it has to be bound to all addresses of the family, or to the group.
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
}

/// RFC 4291, 2.7: groups of the interface-local and of the link-local scope exist on every link.
fn is_of_one_link(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if matches!(ip.segments()[0] & 0xff0f, 0xff01 | 0xff02))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
