//! `--allow` and `--deny`: which peers may talk to a server.

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::thread;

use ipnet::{IpNet, Ipv4Net};

use crate::exit::{Exit, Failure, OrFail as _, cause};
use crate::net::resolve::ResolveArgs;
use crate::signal::{SIGHUP, Signals};
use crate::wait::{Deadline, lock};

#[derive(Clone, Debug, clap::Args)]
pub struct AccessArgs {
    /// Serve only PEER: a network, address, name or @FILE
    ///
    /// May be repeated. A file has one peer per line; SIGHUP reads it again.
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
    /// Whether there is a file to read again.
    fn has_files(&self) -> bool {
        let mut peers = self.allow.iter().chain(&self.deny);
        peers.any(|peer| peer.starts_with('@'))
    }

    /// Reads the files and resolves the names. Blocks as long as the system's resolver does.
    fn load(&self, resolve: &ResolveArgs) -> Result<Access, Failure> {
        let networks = |peers: &[String]| {
            let mut networks = Vec::new();
            for peer in peers {
                match peer.strip_prefix('@') {
                    Some(path) => networks.extend(networks_in(path, resolve)?),
                    None => networks.extend(networks_of(peer, resolve)?),
                }
            }
            Ok::<_, Failure>(networks)
        };
        let allow = (!self.allow.is_empty()).then(|| networks(&self.allow));
        Ok(Access {
            allow: allow.transpose()?,
            deny: networks(&self.deny)?,
        })
    }
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
    args: AccessArgs,
    resolve: ResolveArgs,
    access: Arc<Mutex<Access>>,
    reload: Signals,
}

impl Gate {
    /// Reads the lists. If they name files, SIGHUP no longer ends the process. Blocks as long as the
    /// system's resolver does.
    pub fn open(args: &AccessArgs, resolve: &ResolveArgs) -> Result<Self, Failure> {
        let access = args.load(resolve)?;
        let reload: &[_] = if args.has_files() { &[SIGHUP] } else { &[] };
        Ok(Self {
            args: args.clone(),
            resolve: resolve.clone(),
            access: Arc::new(Mutex::new(access)),
            reload: Signals::catch(&[], reload)?,
        })
    }

    pub fn permits(&self, peer: IpAddr) -> bool {
        // Every connection and every datagram asks. Without lists this takes no lock.
        if self.args.allow.is_empty() && self.args.deny.is_empty() {
            return true;
        }
        lock(&self.access).permits(peer)
    }

    /// The option that decides: `--allow`, if it was given.
    pub fn option(&self) -> &'static str {
        if self.args.allow.is_empty() {
            "--deny"
        } else {
            "--allow"
        }
    }

    /// After SIGHUP, starts a thread that reads the lists again, as resolving a name may block. The
    /// old lists hold until it has succeeded.
    pub fn read_again_if_asked(&self) {
        if !self.reload.arrived() {
            return;
        }
        let args = self.args.clone();
        let resolve = self.resolve.clone();
        let access = Arc::clone(&self.access);
        let read = move || match args.load(&resolve) {
            Ok(new) => {
                *lock(&access) = new;
                tracing::info!(
                    event = "reload",
                    "Read the files of --allow and --deny again."
                );
            }
            Err(error) => {
                tracing::error!(event = "reload", "{error}; what was read before holds");
            }
        };
        let spawned = thread::Builder::new().name("access".to_owned()).spawn(read);
        if let Err(error) = spawned {
            tracing::error!(
                "could not start a thread to read --allow and --deny: {}",
                cause(&error)
            );
        }
    }
}

/// Readable once SIGHUP has arrived.
impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reload.as_fd()
    }
}

/// The networks in a file: one peer a line, `#` starts a comment.
fn networks_in(path: &str, resolve: &ResolveArgs) -> Result<Vec<IpNet>, Failure> {
    let text = fs::read_to_string(path);
    let text = text.or_fail(Exit::Local, || format!("could not read {path}"))?;
    let mut networks = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let peer = line.split('#').next().unwrap_or_default().trim();
        if !peer.is_empty() {
            let found = networks_of(peer, resolve);
            networks.extend(found.map_err(|failure| {
                let message = format!("{path}, line {}: {failure}", number + 1);
                Failure::new(failure.exit, message)
            })?);
        }
    }
    Ok(networks)
}

/// The networks that `peer` names: a network, an address, or all addresses of a name.
fn networks_of(peer: &str, resolve: &ResolveArgs) -> Result<Vec<IpNet>, Failure> {
    let network = peer.parse::<IpNet>();
    if let Ok(network) = network.or_else(|_| peer.parse::<IpAddr>().map(IpNet::from)) {
        return Ok(vec![canonical(network)]);
    }
    if peer.is_empty() || peer.contains(['/', ':', '@', ' ', ',']) {
        let message = format!(
            "'{}' is not a peer; write a network (10.0.0.0/8, fe80::/10), an address, a name or @FILE",
            peer.escape_debug()
        );
        return Err(Failure::local(message));
    }
    let addresses = resolve.resolve(peer, 0, Deadline::NEVER)?.into_iter();
    Ok(addresses
        .map(|address| address.ip().to_canonical().into())
        .collect())
}

/// Turns a network of IPv4-mapped addresses into one of IPv4.
fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(mapped) = network
        && let Some(length) = mapped.prefix_len().checked_sub(96)
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Ok(ipv4) = Ipv4Net::new(address, length)
    {
        return ipv4.into();
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        let strings = |peers: &[&str]| peers.iter().map(ToString::to_string).collect();
        let args = AccessArgs {
            allow: strings(allow),
            deny: strings(deny),
        };
        args.load(&ResolveArgs::default()).unwrap()
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
            "10.0.0/8",
            "::/129",
            "a b",
            "/8",
            "10.0.0.0/",
            "1.2.3.4:80",
            "@",
        ] {
            let args = AccessArgs {
                allow: vec![peer.to_owned()],
                deny: Vec::new(),
            };
            assert!(args.load(&ResolveArgs::default()).is_err(), "{peer}");
        }
    }
}
