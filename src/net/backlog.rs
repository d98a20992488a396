//! How full the queues of sockets are, as Linux shows it for this machine: those of UDP for receiving,
//! and those of TCP for sending.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use super::socket::is_local;

/// How often the tables are read until they show a socket.
const READINGS: usize = 3;

/// The queues of the UDP sockets that receive datagrams to one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The bytes in the fullest queue, counted as `SO_RCVBUF` does.
    pub queued: u64,
    /// How many datagrams they have ever dropped, from any sender.
    pub dropped: u64,
}

impl Backlog {
    /// Of the sockets that receive what is sent to `address`. `None` where it is not known: of another
    /// machine, of a port without a socket, and on other systems than Linux, which have no such tables.
    pub fn at(address: SocketAddr) -> Option<Self> {
        if !is_local(address) {
            return None;
        }
        let keys = keys(address);
        // A table that many sockets enter and leave is read in pieces, and may miss one (proc(5)).
        let mut readings = (0..READINGS).map_while(|_| tables());
        readings.find_map(|tables| sum(tables.lines(), &keys))
    }

    /// Of `socket`. `None` on other systems than Linux.
    pub fn of(socket: impl AsFd) -> Option<Self> {
        let inode = rustix::fs::fstat(socket).ok()?.st_ino;
        let tables = tables()?;
        let mut sockets = tables.lines().filter_map(Socket::read);
        let own = sockets.find(|socket| socket.inode == inode)?;
        Some(own.backlog)
    }
}

/// How many bytes of a TCP connection were sent, or wait to be, and its peer's system has not
/// acknowledged. `None` on other systems than Linux, and for other sockets.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> Option<u64> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino.to_string();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].iter();
    let mut tables = tables.filter_map(|path| fs::read_to_string(path).ok());
    tables.find_map(|table| {
        let mut rows = table.lines().map(|line| line.split_ascii_whitespace());
        // Column 9 has the inode, and 4 the two queues (proc(5)).
        let mut own = rows.find(|row| row.clone().nth(9) == Some(&inode))?;
        let (queued, _) = own.nth(4)?.split_once(':')?;
        u64::from_str_radix(queued, 16).ok()
    })
}

/// The UDP sockets of both families.
fn tables() -> Option<String> {
    let table = fs::read_to_string("/proc/net/udp").ok()?;
    Some(table + &fs::read_to_string("/proc/net/udp6").unwrap_or_default())
}

/// The local addresses of the sockets that `address` reaches, as proc(5) writes them.
fn keys(address: SocketAddr) -> Vec<String> {
    let ips: Vec<IpAddr> = match address.ip() {
        IpAddr::V4(ip) => vec![
            ip.into(),
            Ipv4Addr::UNSPECIFIED.into(),
            ip.to_ipv6_mapped().into(),
            Ipv6Addr::UNSPECIFIED.into(),
        ],
        IpAddr::V6(ip) => vec![ip.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    ips.into_iter().map(|ip| key(ip, address.port())).collect()
}

/// Each word of four bytes is written as a number in this machine's byte order.
fn key(ip: IpAddr, port: u16) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (words, _) = octets.as_chunks();
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("{:08X}", u32::from_ne_bytes(*word)))
        .collect();
    format!("{}:{port:04X}", words.concat())
}

fn sum<'a>(lines: impl Iterator<Item = &'a str>, keys: &[String]) -> Option<Backlog> {
    let sockets = lines.filter_map(Socket::read);
    let mut seen = HashSet::new();
    // A table that is read in pieces may also show a socket twice.
    let reached = sockets
        .filter(|socket| keys.iter().any(|key| *key == socket.local) && seen.insert(socket.inode));
    let backlogs = reached.map(|socket| socket.backlog);
    backlogs.reduce(|one, other| Backlog {
        queued: one.queued.max(other.queued),
        dropped: one.dropped + other.dropped,
    })
}

/// A line of the tables (proc(5)).
struct Socket<'a> {
    local: &'a str,
    inode: u64,
    backlog: Backlog,
}

impl<'a> Socket<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, _, bytes, _, _, _, _, inode, .., dropped] = columns[..] else {
            return None;
        };
        let (_, queued) = bytes.split_once(':')?;
        Some(Self {
            local,
            inode: inode.parse().ok()?,
            backlog: Backlog {
                queued: u64::from_str_radix(queued, 16).ok()?,
                dropped: dropped.parse().ok()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::UdpSocket;

    const TABLE: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 2089: 0100007F:9250 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 18583783 2 00000000b8d237f9 3
 2090: 00000000:9250 0100007F:ABCD 01 00000000:0000C000 00:00000000 00000000     0        0 18583784 2 00000000b8d237fa 4
 2091: 0100007F:9251 00000000:0000 07 00000000:00010000 00:00000000 00000000     0        0 18583785 2 00000000b8d237fb 5
";

    #[test]
    #[cfg(target_endian = "little")]
    fn all_sockets_that_an_address_reaches_count() {
        let of = |address: &str| sum(TABLE.lines(), &super::keys(address.parse().unwrap()));
        let backlog = |queued, dropped| Some(Backlog { queued, dropped });
        assert_eq!(of("127.0.0.1:37456"), backlog(0xC000, 7));
        let twice = TABLE.lines().chain(TABLE.lines());
        let keys = keys("127.0.0.1:37456".parse().unwrap());
        assert_eq!(sum(twice, &keys), backlog(0xC000, 7));
        assert_eq!(of("127.0.0.1:37457"), backlog(0x1_0000, 5));
        assert_eq!(of("127.0.0.2:37456"), backlog(0xC000, 4));
        assert_eq!(of("127.0.0.2:37457"), None);
        assert_eq!(of("[::1]:37456"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_of_either_family_is_found() {
        for (ip, target) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "127.0.0.1"),
        ] {
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            let address =
                SocketAddr::new(target.parse().unwrap(), socket.local_addr().unwrap().port());
            assert_eq!(Backlog::at(address), Some(Backlog::default()), "{ip}");
            let sender = UdpSocket::bind((target, 0)).unwrap();
            sender.send_to(b"x", address).unwrap();
            let backlog = Backlog::at(address);
            assert!(backlog.unwrap().queued > 0, "{ip}");
            assert_eq!(Backlog::of(&socket), backlog, "{ip}");
            assert_eq!(Backlog::of(&sender), Some(Backlog::default()), "{ip}");
        }
    }

    proptest! {
        #[test]
        fn any_table_is_read_without_a_panic(table in "([0-9A-F: \n]|\\PC)*") {
            let keys = keys("127.0.0.1:1".parse().unwrap());
            prop_assert_eq!(sum(table.lines(), &keys), None);
        }

        #[test]
        fn a_queue_is_read_as_the_kernel_writes_it(ip: IpAddr, port: u16, queued: u32, dropped: u32, inode: u32) {
            let line = format!(
                "  1: {} 0:0 07 00000000:{queued:08X} 00:00000000 00000000     0        0 {inode} 2 0 {dropped}",
                key(ip, port)
            );
            let keys = keys(SocketAddr::new(ip, port));
            let backlog = Backlog { queued: queued.into(), dropped: dropped.into() };
            prop_assert_eq!(sum([line.as_str()].into_iter(), &keys), Some(backlog));
            prop_assert_eq!(Socket::read(&line).unwrap().inode, u64::from(inode));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_peer_does_not_read_is_not_acknowledged() {
        use std::io::{Read as _, Write as _};
        use std::net::{TcpListener, TcpStream};

        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut peer = listener.accept().unwrap().0;
            assert_eq!(unacknowledged(client.as_fd()), Some(0), "{address}");
            client.set_nonblocking(true).unwrap();
            let mut sent = 0;
            while let Ok(count) = client.write(&[0; 16_000]) {
                sent += count;
            }
            let queued = unacknowledged(client.as_fd()).unwrap();
            assert!(queued > 0 && queued < sent as u64, "{queued} of {sent}");
            peer.read_exact(&mut vec![0; sent]).unwrap();
            while unacknowledged(client.as_fd()) != Some(0) {}
        }
        let file = fs::File::open("/dev/null").unwrap();
        assert_eq!(unacknowledged(file.as_fd()), None);
    }
}
