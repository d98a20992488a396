//! `--allow` and `--deny`: which peers may talk to a server.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex};
use std::thread;

use ipnet::{IpNet, Ipv4Net};
use rustix::fs::OFlags;

use crate::escape::is_hidden;
use crate::exit::{Exit, Failure, OrFail as _, cause};
use crate::net::resolve::ResolveArgs;
use crate::signal::{SIGHUP, Signals};
use crate::wait::{Deadline, lock};

#[derive(Clone, Debug, clap::Args)]
pub struct AccessArgs {
    /// Serve only PEER: network, address, name, @FILE
    ///
    /// May be repeated. A file has one or several peers on a line, and `#` starts a comment; SIGHUP
    /// reads it again.
    #[arg(long, value_name = "PEER")]
    allow: Vec<String>,
    /// Refuse PEER, unless --allow names it
    #[arg(long, value_name = "PEER")]
    deny: Vec<String>,
}

/// The two lists, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Access {
    /// `None`: every peer that is not denied may.
    allow: Option<Vec<IpNet>>,
    deny: Vec<IpNet>,
}

impl AccessArgs {
    /// Whether `--allow` names peers.
    pub fn has_allow(&self) -> bool {
        !self.allow.is_empty()
    }

    /// Whether there is a file to read again.
    fn has_files(&self) -> bool {
        let mut peers = self.allow.iter().chain(&self.deny);
        peers.any(|peer| peer.starts_with('@'))
    }

    /// Reads the files and resolves the names. Blocks as long as the system's resolver does, and as
    /// files do that may be `any`.
    fn load(&self, resolve: &ResolveArgs, files: Files) -> Result<Access, Failure> {
        let networks = |peers: &[String], option| {
            let mut networks = Vec::new();
            for peer in peers {
                let path = peer.strip_prefix('@').filter(|path| !path.is_empty());
                let found = match path {
                    Some(path) => networks_in(path, resolve, files),
                    None => networks_of(peer, resolve),
                };
                networks.extend(found.map_err(|failure| {
                    Failure::new(failure.exit, format!("{failure} ({option})"))
                })?);
            }
            Ok::<_, Failure>(networks)
        };
        let allow = (!self.allow.is_empty()).then(|| networks(&self.allow, "--allow"));
        Ok(Access {
            allow: allow.transpose()?,
            deny: networks(&self.deny, "--deny")?,
        })
    }
}

/// Which files a list may be read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    /// A pipe too, whose writer this waits for.
    Any,
    /// A pipe gives its bytes once. Later it blocks, or is empty.
    Regular,
}

impl Access {
    /// Whether `peer` may talk to the server. A peer on both lists may. An IPv4-mapped address counts
    /// as IPv4.
    fn permits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let names = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&peer));
        match &self.allow {
            Some(allow) => names(allow),
            None => !names(&self.deny),
        }
    }
}

/// The current lists. SIGHUP replaces them.
pub struct Gate {
    reload: Signals,
    lists: Arc<Lists>,
}

/// What the thread that reads the lists again shares with the server.
struct Lists {
    args: AccessArgs,
    resolve: ResolveArgs,
    access: Mutex<Access>,
    reading: Mutex<Reading>,
}

/// At most one thread reads the lists: so an older list never replaces a newer one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    Once,
    /// SIGHUP has arrived since the thread began.
    AndAgain,
}

impl Gate {
    /// Reads the lists. If they name files, SIGHUP no longer ends the process. Blocks as long as the
    /// system's resolver does, and until a pipe that is a list has ended.
    pub fn open(args: &AccessArgs, resolve: &ResolveArgs) -> Result<Self, Failure> {
        let access = args.load(resolve, Files::Any)?;
        let reload: &[_] = if args.has_files() { &[SIGHUP] } else { &[] };
        Ok(Self {
            reload: Signals::catch(&[], reload)?,
            lists: Arc::new(Lists {
                args: args.clone(),
                resolve: resolve.clone(),
                access: Mutex::new(access),
                reading: Mutex::new(Reading::No),
            }),
        })
    }

    pub fn permits(&self, peer: IpAddr) -> bool {
        let Lists { args, access, .. } = &*self.lists;
        // Every connection and every datagram asks. Without lists this takes no lock.
        if args.allow.is_empty() && args.deny.is_empty() {
            return true;
        }
        lock(access).permits(peer)
    }

    /// Whether `--allow` names `peer`.
    pub fn allows_by_name(&self, peer: IpAddr) -> bool {
        let Lists { args, access, .. } = &*self.lists;
        !args.allow.is_empty() && lock(access).permits(peer)
    }

    /// Whether SIGHUP reads files again.
    pub fn rereads_lists(&self) -> bool {
        self.lists.args.has_files()
    }

    /// The option that decides: `--allow`, if it was given.
    pub fn option(&self) -> &'static str {
        if self.lists.args.allow.is_empty() {
            "--deny"
        } else {
            "--allow"
        }
    }

    /// After SIGHUP, lets a thread read the lists again, as resolving a name may block. The old lists
    /// hold until it has succeeded.
    pub fn read_again_if_asked(&self) {
        if !self.reload.arrived() {
            return;
        }
        let mut reading = lock(&self.lists.reading);
        if *reading != Reading::No {
            *reading = Reading::AndAgain;
            return;
        }
        let lists = Arc::clone(&self.lists);
        let thread = thread::Builder::new().name("access".to_owned());
        match thread.spawn(move || lists.read_again()) {
            Ok(_) => *reading = Reading::Once,
            Err(error) => tracing::error!(
                "could not start a thread to read --allow and --deny: {}",
                cause(&error)
            ),
        }
    }
}

impl Lists {
    /// Reads the lists, and once more each time that SIGHUP arrives meanwhile.
    fn read_again(&self) {
        loop {
            match self.args.load(&self.resolve, Files::Regular) {
                Ok(new) => {
                    *lock(&self.access) = new;
                    tracing::info!(
                        event = "reload",
                        "Read the files of --allow and --deny again."
                    );
                }
                Err(error) => {
                    tracing::error!(event = "reload", "{error}; what was read before holds");
                }
            }
            let mut reading = lock(&self.reading);
            if *reading == Reading::Once {
                *reading = Reading::No;
                return;
            }
            *reading = Reading::Once;
        }
    }
}

/// Readable once SIGHUP has arrived.
impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reload.as_fd()
    }
}

/// The networks in a file: peers with white space between them; `#` starts a comment.
fn networks_in(path: &str, resolve: &ResolveArgs, files: Files) -> Result<Vec<IpNet>, Failure> {
    let bytes = read_file(path, files).or_fail(Exit::Local, || format!("could not read {path}"))?;
    let mut networks = Vec::new();
    for (number, peers) in peers_in(&bytes) {
        for peer in peers {
            let found = networks_of(&peer, resolve);
            networks.extend(found.map_err(|failure| {
                Failure::new(failure.exit, format!("{path}, line {number}: {failure}"))
            })?);
        }
    }
    Ok(networks)
}

fn read_file(path: &str, files: Files) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    if files == Files::Regular {
        // fifo(7): to open a pipe for reading blocks until it has a writer.
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    }
    let mut file = options.open(path)?;
    if files == Files::Regular && !file.metadata()?.is_file() {
        return Err(io::Error::other(
            "it is not a regular file, which can be read again",
        ));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The peers of a list, with the numbers of their lines. Lines end as on any system.
fn peers_in(bytes: &[u8]) -> Vec<(usize, Vec<String>)> {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let peers = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    let lines = text.split(['\n', '\r']).map(peers);
    (1..).zip(lines).collect()
}

/// The networks that `peer` names: a network, an address, or all addresses of a name.
fn networks_of(peer: &str, resolve: &ResolveArgs) -> Result<Vec<IpNet>, Failure> {
    if let Some(network) = network(peer) {
        return Ok(vec![canonical(network)?]);
    }
    let refused = |advice| Err(Failure::local(format!("'{peer}' is not {advice}")));
    let is_odd = |c: char| "/:@,".contains(c) || c.is_whitespace() || is_hidden(c);
    if peer.is_empty() || peer.contains(is_odd) {
        return refused(
            "a peer; write a network (10.0.0.0/8, fe80::/10), an address, a name or @FILE",
        );
    }
    if looks_like_a_number(peer) {
        return refused("a whole address; write one (10.0.0.1) or a network (10.0.0.0/8)");
    }
    let addresses = resolve.resolve(peer, 0, Deadline::NEVER)?.into_iter();
    Ok(addresses
        .map(|address| address.ip().to_canonical().into())
        .collect())
}

/// A network, or an address as one. A length with a zero before it is neither: some programs read /010
/// as 8.
fn network(peer: &str) -> Option<IpNet> {
    if peer.contains("/0") && !peer.ends_with("/0") {
        return None;
    }
    let address = || peer.parse::<IpAddr>().ok().map(IpNet::from);
    peer.parse().ok().or_else(address)
}

/// Whether resolvers may read `name` as `inet_aton(3)` does: `10` is 0.0.0.10 there, `010.0.0.1` is
/// 8.0.0.1, and `0x0a000001` is 10.0.0.1. No name of a host ends in a number (RFC 1123, section 2.1).
fn looks_like_a_number(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next();
    let last = last.unwrap_or_default().to_ascii_lowercase();
    let is_number = match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        None => last.bytes().all(|digit| digit.is_ascii_digit()),
    };
    // A range (10.0.0.1-9) or a pattern (10.0.0.*).
    is_number || !name.contains(char::is_alphabetic)
}

/// Turns a network of IPv4-mapped addresses into one of IPv4 (RFC 4291, section 2.5.5.2).
fn canonical(network: IpNet) -> Result<IpNet, Failure> {
    let IpNet::V6(v6) = network else {
        return Ok(network);
    };
    let Some(address) = v6.addr().to_ipv4_mapped() else {
        return Ok(network);
    };
    let length = v6.prefix_len().checked_sub(96);
    let ipv4 = length.and_then(|length| Ipv4Net::new(address, length).ok());
    ipv4.map(IpNet::from).ok_or_else(|| {
        let (length, ipv4) = (v6.prefix_len(), length.unwrap_or(v6.prefix_len().min(32)));
        Failure::local(format!(
            "'{network}' is no network of IPv4 addresses, as its /{length} is less than /96; write \
             {address}/{ipv4}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};
    use proptest::prelude::*;

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        let strings = |peers: &[&str]| peers.iter().map(ToString::to_string).collect();
        let args = AccessArgs {
            allow: strings(allow),
            deny: strings(deny),
        };
        args.load(&ResolveArgs::default(), Files::Any).unwrap()
    }

    #[test]
    fn lists_decide_by_address_and_family() {
        // allow, deny, peer, whether it is let in
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a str, bool);
        let cases: &[Case<'_>] = &[
            (&[], &[], "192.0.2.1", true),
            (&[], &[], "2001:db8::1", true),
            (&["192.0.2.1"], &[], "192.0.2.1", true),
            (&["192.0.2.1"], &[], "192.0.2.2", false),
            (&["192.0.2.1"], &[], "2001:db8::1", false),
            (&["192.0.2.1"], &[], "::ffff:192.0.2.1", true),
            (&["192.0.2.1/32"], &[], "192.0.2.1", true),
            (&["192.0.2.1/24"], &[], "192.0.2.255", true),
            (&["192.0.2.0/24"], &[], "192.0.3.0", false),
            (&["0.0.0.0/0"], &[], "203.0.113.9", true),
            (&["0.0.0.0/0"], &[], "::1", false),
            (&["::/0"], &[], "::1", true),
            (&["::/0"], &[], "192.0.2.1", false),
            (&["2001:db8::/32"], &[], "2001:db8:ffff::1", true),
            (&["2001:db8::/32"], &[], "2001:db9::1", false),
            (&["2001:db8::1"], &[], "2001:db8::2", false),
            (&["::ffff:192.0.2.0/120"], &[], "192.0.2.77", true),
            (&["::ffff:192.0.2.0/120"], &[], "::ffff:192.0.2.77", true),
            (&["::ffff:192.0.2.0/120"], &[], "192.0.3.1", false),
            (&["::ffff:192.0.2.9"], &[], "192.0.2.9", true),
            (&["::ffff:192.0.2.9/128"], &[], "192.0.2.9", true),
            (&["::ffff:192.0.2.9/128"], &[], "192.0.2.8", false),
            (&["::ffff:0:0/96"], &[], "192.0.2.9", true),
            (&["192.0.2.1", "192.0.2.5"], &[], "192.0.2.5", true),
            (&["192.0.2.1", "2001:db8::5"], &[], "2001:db8::5", true),
            (&[], &["192.0.2.1"], "192.0.2.1", false),
            (&[], &["192.0.2.1"], "192.0.2.2", true),
            (&[], &["192.0.2.1"], "::ffff:192.0.2.1", false),
            (&[], &["::ffff:192.0.2.1"], "192.0.2.1", false),
            (&[], &["10.0.0.0/8"], "10.255.255.255", false),
            (&[], &["10.0.0.0/8"], "11.0.0.0", true),
            (&[], &["::/0"], "192.0.2.1", true),
            (&[], &["::/0"], "2001:db8::1", false),
            (&[], &["fe80::/10"], "febf::1", false),
            (&[], &["fe80::/10"], "fec0::1", true),
            (&["192.0.2.1"], &["192.0.2.0/24"], "192.0.2.1", true),
            (&["192.0.2.1"], &["192.0.2.0/24"], "192.0.2.2", false),
            (&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.1", true),
            (&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.2", true),
            (
                &["192.0.2.0/24"],
                &["198.51.100.0/24"],
                "203.0.113.1",
                false,
            ),
            (&["127.0.0.1"], &["127.0.0.0/8"], "127.0.0.2", false),
            (&["::1"], &["127.0.0.0/8"], "127.0.0.1", false),
        ];
        for (allow, deny, peer, may) in cases {
            let permits = access(allow, deny).permits(peer.parse().unwrap());
            assert_eq!(permits, *may, "allow {allow:?}, deny {deny:?}, peer {peer}");
        }
    }

    #[test]
    fn every_prefix_length_cuts_where_it_says() {
        for length in 0..=32_u32 {
            let network = format!("198.51.100.0/{length}");
            let base = u32::from(std::net::Ipv4Addr::new(198, 51, 100, 0));
            let size = 1_u64 << (32 - length);
            let first = u64::from(base) / size * size;
            let address = |number: u64| {
                IpAddr::from(std::net::Ipv4Addr::from(u32::try_from(number).unwrap()))
            };
            let allow = access(&[&network], &[]);
            let deny = access(&[], &[&network]);
            for inside in [first, first + size - 1] {
                assert!(allow.permits(address(inside)), "{network} {inside}");
                assert!(!deny.permits(address(inside)), "{network} {inside}");
            }
            if length > 0 {
                let outside = if first == 0 { first + size } else { first - 1 };
                assert!(!allow.permits(address(outside)), "{network} {outside}");
                assert!(deny.permits(address(outside)), "{network} {outside}");
            }
        }
    }

    #[test]
    fn a_word_that_is_no_peer_is_refused() {
        for peer in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/010",
            "10.0.0.0/00",
            "::/064",
            "10.0.0/8",
            "::/129",
            "a b",
            "/8",
            "10.0.0.0/",
            "1.2.3.4:80",
            "@",
            "10",
            "10.0.0",
            "10.0.0.",
            "10.0.0.256",
            "10.0.0.0.1",
            "010.0.0.10",
            "10.0.0.08",
            "0x0a000001",
            "0X0A.0.0.1",
            "10.0.0x1",
            "0x",
            "167772161",
            "host.10",
            "10.0.0.*",
            "10.0.0.1-9",
            "-10.0.0.1",
            "１０.0.0.1",
            "10.0.0.1\t",
            "10.0.0.1\nx",
            "::ffff:10.0.0.1/32",
            "::ffff:10.0.0.1/95",
            "::ffff:10.0.0.1/129",
        ] {
            let args = AccessArgs {
                allow: vec![peer.to_owned()],
                deny: Vec::new(),
            };
            let loaded = args.load(&ResolveArgs::default(), Files::Any);
            assert_eq!(loaded.unwrap_err().exit, Exit::Local, "{peer}");
        }
    }

    #[test]
    fn a_name_may_begin_with_digits() {
        for name in ["1and1.example", "10gen", "0xdata.example", "7.de", "a1"] {
            assert!(!looks_like_a_number(name), "{name}");
        }
    }

    #[test]
    fn a_file_has_peers_as_any_editor_writes_them() {
        let peers = |text: &str| {
            let lines = peers_in(text.as_bytes()).into_iter();
            let lines = lines.filter(|(_, peers)| !peers.is_empty());
            let lines = lines.map(|(number, peers)| format!("{number}: {}", peers.join("|")));
            lines.collect::<Vec<_>>().join("; ")
        };
        assert_eq!(peers(""), "");
        assert_eq!(
            peers("\u{feff}a\r\nb  c\t# d\r\n\r\n#e\r\n f"),
            "1: a; 2: b|c; 5: f"
        );
        assert_eq!(peers("# all\ra\rb"), "2: a; 3: b");
        assert_eq!(peers("\u{feff}"), "");
    }

    proptest! {
        #[test]
        fn no_peer_panics_and_a_number_is_never_resolved(peer in "[0-9a-fx.:/*-]{0,24}|\\PC{0,12}") {
            let command = ResolveArgs::augment_args(clap::Command::new("test"));
            let numeric = command.get_matches_from(["test", "--numeric"]);
            let numeric = ResolveArgs::from_arg_matches(&numeric).unwrap();
            if let Ok(networks) = networks_of(&peer, &numeric) {
                // Without a resolver only a whole address or network is a peer.
                prop_assert!(peer.parse::<IpNet>().is_ok() || peer.parse::<IpAddr>().is_ok());
                let is_mapped = |network: &IpNet| match network {
                    IpNet::V6(v6) => v6.addr().to_ipv4_mapped().is_some(),
                    IpNet::V4(_) => false,
                };
                prop_assert!(!networks.iter().any(is_mapped));
            }
        }

        #[test]
        fn what_the_system_reads_as_a_number_looks_like_one(
            parts in proptest::collection::vec((0_u32..300, 0_usize..3), 1..5)
        ) {
            let parts = parts.into_iter().map(|(number, base)| match base {
                0 => format!("{number}"),
                1 => format!("0{number:o}"),
                _ => format!("0x{number:x}"),
            });
            let name = parts.collect::<Vec<_>>().join(".");
            prop_assert!(looks_like_a_number(&name), "{name}");
        }

        #[test]
        fn any_file_is_cut_into_peers_without_white_space(bytes: Vec<u8>) {
            for (number, peers) in peers_in(&bytes) {
                prop_assert!(number >= 1);
                prop_assert!(peers.iter().all(|peer| !peer.is_empty() && !peer.contains(char::is_whitespace)));
            }
        }
    }
}
