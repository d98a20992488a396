//! What a ping goes to, in the words of its report.

use std::net::SocketAddr;

use crate::units::ip;

pub struct Destination {
    /// As typed: `HOST:PORT`, `[IPv6]:PORT`, `unix:PATH`.
    pub target: String,
    /// The proxies that lead there. `None`: straight.
    pub through: Option<String>,
    /// `None`: a Unix socket has none.
    pub port: Option<u16>,
    /// `None`: only the last proxy may know it; a Unix socket has none.
    pub address: Option<SocketAddr>,
}

impl Destination {
    /// A target that this machine sends to, at `address`.
    pub fn at(target: String, address: SocketAddr) -> Self {
        Self {
            target,
            through: None,
            port: Some(address.port()),
            address: Some(address),
        }
    }

    /// The first line, without its end, of a ping with probes of `size` bytes, `whole` with the headers of IPv4.
    pub fn heading(&self, size: usize, whole: usize) -> String {
        let target = &self.target;
        let Some(address) = &self.address else {
            let through = self.through.as_ref();
            let way = through.map(|through| format!(" (through {through})"));
            return format!(
                "PING {target}{} {size} bytes of data.",
                way.unwrap_or_default()
            );
        };
        let ip = self.ip_of(address);
        // ping(8) words the two families differently, and jc tells them apart by that.
        if address.is_ipv4() {
            format!("PING {target} ({ip}) {size}({whole}) bytes of data.")
        } else if self.is_ipv6_literal() {
            format!("PING {target}({ip}) {size} data bytes")
        } else {
            format!("PING {target}({target} ({ip})) {size} data bytes")
        }
    }

    /// Who has answered, as ping(8) shows it: as typed, and the address if that is another text. A member
    /// of a group is shown by its address.
    pub fn from(&self, source: Option<SocketAddr>) -> String {
        let target = &self.target;
        let (Some(source), Some(address)) = (source, self.address) else {
            return target.clone();
        };
        let name = if source == address {
            target.clone()
        } else {
            source.to_string()
        };
        // jc expects a second address exactly where the first line has a name.
        if self.is_ipv6_literal() || *target == address.to_string() {
            return name;
        }
        format!("{name} ({})", ip(&source))
    }

    /// The address that is probed. A zone stands as typed.
    pub fn ip(&self) -> Option<String> {
        self.address.as_ref().map(|address| self.ip_of(address))
    }

    fn ip_of(&self, address: &SocketAddr) -> String {
        let typed = self.target.strip_prefix('[');
        let typed = typed.and_then(|rest| rest.split_once(']'));
        match typed {
            Some((typed, _)) if typed.contains('%') => typed.to_owned(),
            _ => ip(address),
        }
    }

    fn is_ipv6_literal(&self) -> bool {
        self.target.starts_with('[')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_pings_for_both_families() {
        for (target, address, line) in [
            (
                "10.0.0.1:7",
                "10.0.0.1:7",
                "PING 10.0.0.1:7 (10.0.0.1) 56(84) bytes of data.",
            ),
            (
                "db:7",
                "10.0.0.1:7",
                "PING db:7 (10.0.0.1) 56(84) bytes of data.",
            ),
            ("[::1]:7", "[::1]:7", "PING [::1]:7(::1) 56 data bytes"),
            ("db:7", "[::1]:7", "PING db:7(db:7 (::1)) 56 data bytes"),
            (
                "[fe80::1%lo]:7",
                "[fe80::1%1]:7",
                "PING [fe80::1%lo]:7(fe80::1%lo) 56 data bytes",
            ),
        ] {
            let destination = Destination::at(target.to_owned(), address.parse().unwrap());
            assert_eq!(destination.heading(56, 84), line);
        }
    }

    #[test]
    fn an_answer_names_who_has_answered() {
        for (target, address, source, name) in [
            ("10.0.0.1:7", "10.0.0.1:7", "10.0.0.1:7", "10.0.0.1:7"),
            ("db:7", "10.0.0.1:7", "10.0.0.1:7", "db:7 (10.0.0.1)"),
            ("[0::1]:7", "[::1]:7", "[::1]:7", "[0::1]:7"),
            ("db:7", "[::1]:7", "[::1]:7", "db:7 (::1)"),
            (
                "all:7",
                "224.0.0.9:7",
                "10.0.0.2:7",
                "10.0.0.2:7 (10.0.0.2)",
            ),
            ("224.0.0.9:7", "224.0.0.9:7", "10.0.0.2:7", "10.0.0.2:7"),
        ] {
            let destination = Destination::at(target.to_owned(), address.parse().unwrap());
            assert_eq!(destination.from(source.parse().ok()), name);
        }
    }

    #[test]
    fn what_has_no_address_here_is_named_as_typed() {
        for (target, through, line) in [
            (
                "[::1]:7",
                Some("a:1, b:2"),
                "PING [::1]:7 (through a:1, b:2) 0 bytes of data.",
            ),
            ("unix:/a", None, "PING unix:/a 0 bytes of data."),
        ] {
            let destination = Destination {
                target: target.to_owned(),
                through: through.map(str::to_owned),
                port: None,
                address: None,
            };
            assert_eq!(destination.heading(0, 40), line);
            assert_eq!(destination.from(None), target);
        }
    }
}
