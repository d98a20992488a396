//! The options of sockets: where packets come from, and what the kernel is asked to do with them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive, Type};

use crate::exit::cause;
use crate::units::number;

/// The ids of the options that mean something to IP only, and nothing to a Unix socket.
pub const OF_IP: &[&str] = &[
    "ipv4",
    "ipv6",
    "numeric",
    "source",
    "source_port",
    "interface",
    "ttl",
    "dscp",
    "mss",
    "keepalive",
    "reuse_port",
];

/// Where a client's packets come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SourceArgs {
    /// Send from the local address IP
    #[arg(long, value_name = "IP", value_parser = ip_address)]
    pub source: Option<IpAddr>,
    /// Send from the local port N
    #[arg(long, value_name = "N", value_parser = crate::net::address::port)]
    pub source_port: Option<u16>,
}

impl SourceArgs {
    /// Whether `target` has the family of `--source`.
    pub fn suits(&self, target: &SocketAddr) -> bool {
        self.source
            .is_none_or(|source| source.is_ipv4() == target.is_ipv4())
    }

    /// Binds an unconnected socket that is going to send to `target`.
    pub(super) fn apply(&self, socket: &Socket, target: &SocketAddr) -> io::Result<()> {
        if self.source.is_none() && self.source_port.is_none() {
            return Ok(());
        }
        let any: IpAddr = if target.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            socket.set_only_v6(true)?;
            Ipv6Addr::UNSPECIFIED.into()
        };
        if self.source_port.is_some() && socket.r#type()? == Type::STREAM {
            // The port of a connection in TIME_WAIT can be used again.
            socket.set_reuse_address(true)?;
        }
        let mut local = SocketAddr::new(self.source.unwrap_or(any), self.source_port.unwrap_or(0));
        if let (SocketAddr::V6(local), SocketAddr::V6(target)) = (&mut local, target) {
            // A link-local source lies on the link that leads to the target.
            local.set_scope_id(target.scope_id());
        }
        socket.bind(&local.into()).map_err(|error| {
            let source = self.source.map(|ip| format!("--source {ip}"));
            let port = self.source_port.map(|port| format!("--source-port {port}"));
            let options: Vec<String> = source.into_iter().chain(port).collect();
            let message = format!("{}: {}", options.join(" "), cause(&error));
            io::Error::new(error.kind(), message)
        })
    }
}

/// Options of any socket. If the kernel refuses one, the error names it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SocketArgs {
    /// Use the network interface NAME
    #[arg(long, value_name = "NAME", value_parser = interface_name)]
    interface: Option<String>,
    /// Set the hop limit (TTL) of packets
    #[arg(long, value_name = "N", value_parser = number::<u8>(1..=255))]
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

/// Options of a TCP socket.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TcpSocketArgs {
    #[command(flatten)]
    any: SocketArgs,
    /// Limit TCP segments to N bytes, in both directions
    #[arg(long, value_name = "N", value_parser = number::<u16>(MSS))]
    mss: Option<u16>,
    /// Probe a silent peer after TIME (whole seconds)
    #[arg(long, value_name = "TIME", value_parser = keepalive)]
    keepalive: Option<Duration>,
}

impl SocketArgs {
    /// Sets the options on a socket for `address`. It must be neither bound nor connected yet.
    pub(super) fn apply(&self, socket: &Socket, address: &SocketAddr) -> io::Result<()> {
        set("--interface", self.interface.as_ref(), |name| {
            bind_to_interface(socket, name)
        })?;
        set("--ttl", self.ttl, |ttl| match address {
            SocketAddr::V4(_) => socket.set_ttl_v4(ttl.into()),
            SocketAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into()),
        })?;
        set("--dscp", self.dscp, |dscp| {
            // RFC 2474: the upper six bits of the octet; the lower two are ECN's.
            let octet = u32::from(dscp) << 2;
            match address {
                SocketAddr::V4(_) => socket.set_tos_v4(octet),
                SocketAddr::V6(_) => socket.set_tclass_v6(octet),
            }
        })?;
        self.apply_sizes(socket)?;
        if self.reuse_port {
            named("--reuse-port", socket.set_reuse_port(true))?;
        }
        Ok(())
    }

    fn apply_sizes(&self, socket: &Socket) -> io::Result<()> {
        set("--recv-buffer", self.recv_buffer, |size| {
            socket.set_recv_buffer_size(size)?;
            at_least(size, socket.recv_buffer_size()?)
        })?;
        set("--send-buffer", self.send_buffer, |size| {
            socket.set_send_buffer_size(size)?;
            at_least(size, socket.send_buffer_size()?)
        })
    }
}

impl SocketArgs {
    /// Asks for a receive buffer of `size` bytes, unless `--recv-buffer` was given. Returns how many
    /// bytes the buffer has.
    pub(super) fn ask_for_room(&self, socket: &Socket, size: usize) -> io::Result<usize> {
        let mut size = self.recv_buffer.map_or(size, |_| 0);
        // Linux grants what it can; macOS refuses what it cannot grant.
        while size > 0 && socket.set_recv_buffer_size(size).is_err() {
            size /= 2;
        }
        Ok(socket.recv_buffer_size()? / REPORTED)
    }

    /// Whether `--recv-buffer` was given.
    pub fn has_recv_buffer(&self) -> bool {
        self.recv_buffer.is_some()
    }
}

/// The sizes of a segment that Linux takes (`TCP_MIN_MSS`, `MAX_TCP_WINDOW`).
const MSS: RangeInclusive<u64> = 88..=32_767;

/// The longest time before a keepalive probe that Linux takes, in seconds (`MAX_TCP_KEEPIDLE`).
const LONGEST_KEEPALIVE: u64 = 32_767;

/// Linux reports twice the size of a buffer that it granted (socket(7)).
const REPORTED: usize = if cfg!(target_os = "linux") { 2 } else { 1 };

impl TcpSocketArgs {
    /// Sets the options of any socket that mean something to a Unix socket: the sizes of its buffers.
    pub(super) fn apply_to_unix(&self, socket: &Socket) -> io::Result<()> {
        self.any.apply_sizes(socket)
    }

    /// As [`SocketArgs::apply`].
    pub(super) fn apply(&self, socket: &Socket, address: &SocketAddr) -> io::Result<()> {
        self.any.apply(socket, address)?;
        set("--mss", self.mss, |mss| socket.set_tcp_mss(mss.into()))?;
        let Some(time) = self.keepalive else {
            return Ok(());
        };
        let keepalive = TcpKeepalive::new().with_time(time).with_interval(time);
        let set = socket.set_tcp_keepalive(&keepalive);
        named(format_args!("--keepalive {time:?}"), set)
    }
}

/// Sets an option that has a value, if it was given.
pub(super) fn set<V: Copy + fmt::Display>(
    option: &str,
    value: Option<V>,
    set: impl FnOnce(V) -> io::Result<()>,
) -> io::Result<()> {
    value.map_or(Ok(()), |value| {
        named(format_args!("{option} {value}"), set(value))
    })
}

/// Names the option that the kernel refused. The error is this machine's, whatever its cause.
pub(super) fn named(option: impl fmt::Display, result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| {
        let message = format!("{option}: {}", cause(&error));
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

/// Fails if the kernel granted less than `asked`: it cuts a size down silently.
fn at_least(asked: usize, reported: usize) -> io::Result<()> {
    let granted = reported / REPORTED;
    if granted < asked {
        return Err(io::Error::other(format!(
            "the system allows no more than {granted} bytes"
        )));
    }
    Ok(())
}

/// A size that fits setsockopt(2), which takes an `int`.
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

/// The kernel takes an empty name for none.
fn interface_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("'' is not the name of an interface".to_owned());
    }
    Ok(text.to_owned())
}

fn ip_address(text: &str) -> Result<IpAddr, String> {
    let address = text.parse();
    address.map_err(|_| format!("'{text}' is not an IP address; write 10.0.0.2 or fd00::2"))
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

fn keepalive(text: &str) -> Result<Duration, String> {
    let time = crate::units::positive_duration(text)?;
    if time.subsec_nanos() > 0 {
        return Err(format!("'{text}' is not a whole number of seconds"));
    }
    if time.as_secs() > LONGEST_KEEPALIVE {
        return Err(format!(
            "'{text}' is too long: a probe comes after {LONGEST_KEEPALIVE} seconds at most"
        ));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn any_value_is_answered_without_a_panic(text in "(cs|af|ef|[0-9kMG.hms]|\\PC){0,6}") {
            prop_assert!(dscp(&text).is_ok_and(|class| class < 64) || dscp(&text).is_err());
            let _ = (buffer_size(&text), keepalive(&text));
        }
    }
}
