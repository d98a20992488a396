//! A network namespace for one test, which needs root and touches no other network.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::program::{Program, program};
use super::{DEADLINE, spawn};

/// Runs `test` in a new network that has only a loopback interface. Its threads and programs run
/// there too.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let name = new_name();
    program("ip", ["netns", "add", &name]).run();
    let namespace = File::open(Path::new("/run/netns").join(&name)).unwrap();
    // From here on the network lives until its last process ends.
    program("ip", ["netns", "del", &name]).run();
    let thread = spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn new_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("netkit-{}-{number}", std::process::id())
}

/// Another host, connected to this one by a wire.
///
/// This end is the interface `near`, with `192.0.2.1`, `2001:db8::1` and `fe80::1`.
/// The other end is `far`, with the same addresses ending in 2.
pub struct Host {
    name: String,
}

impl Host {
    /// Call it within [`in_namespace`].
    pub fn connect() -> Self {
        let name = new_name();
        ip(&format!("netns add {name}"));
        let host = Self { name };
        let name = &host.name;
        ip(&format!(
            "link add near type veth peer name far netns {name}"
        ));
        let near = (String::new(), "near", 1);
        let far = (format!("-n {name} "), "far", 2);
        for (on, end, number) in [near, far] {
            ip(&format!("{on}link set lo up"));
            // The kernel would add an address of its own, and take its time to check it.
            ip(&format!("{on}link set {end} addrgenmode none"));
            ip(&format!("{on}link set {end} up"));
            ip(&format!("{on}address add 192.0.2.{number}/24 dev {end}"));
            for prefix in ["2001:db8::", "fe80::"] {
                let address = format!("{prefix}{number}");
                ip(&format!("{on}address add {address}/64 dev {end} nodad"));
                wait_for_route(&on, &address);
            }
        }
        host
    }

    /// A further host, which this host routes to over a wire that carries packets of `mtu` bytes: it has
    /// `198.51.100.2` and `2001:db8:1::2`.
    pub fn route_to_next(&self, mtu: u16) -> Self {
        let name = new_name();
        ip(&format!("netns add {name}"));
        let next = Self { name };
        let (here, there) = (format!("-n {} ", self.name), format!("-n {} ", next.name));
        ip(&format!(
            "{here}link add out type veth peer name in netns {}",
            next.name
        ));
        for (on, end, number) in [(&here, "out", 1), (&there, "in", 2)] {
            ip(&format!("{on}link set lo up"));
            ip(&format!("{on}link set {end} addrgenmode none mtu {mtu}"));
            ip(&format!("{on}link set {end} up"));
            ip(&format!("{on}address add 198.51.100.{number}/24 dev {end}"));
            // The kernel looks for neighbours from a link-local address only.
            for prefix in ["2001:db8:1::", "fe80::1:"] {
                let address = format!("{prefix}{number}");
                ip(&format!("{on}address add {address}/64 dev {end} nodad"));
                wait_for_route(on, &address);
            }
        }
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            let set = format!("{key}=1");
            program("sysctl", ["-qw", &set]).on(self).run();
        }
        ip("route add 198.51.100.0/24 via 192.0.2.2");
        ip("-6 route add 2001:db8:1::/64 via 2001:db8::2");
        ip(&format!("{there}route add default via 198.51.100.1"));
        ip(&format!("{there}-6 route add default via 2001:db8:1::1"));
        next
    }

    /// The name of its network namespace, for ip(8).
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.name));
    }
}

/// Runs ip(8).
pub fn ip(arguments: &str) {
    program("ip", arguments.split(' ')).run();
}

/// Gives a loopback address to the network.
pub fn add_address(address: &str) {
    if address.contains(':') {
        // Without `nodad` the kernel checks it for a second before it can be used.
        ip(&format!("address add {address} dev lo nodad"));
        wait_for_route("", address);
    } else {
        ip(&format!("address add {address} dev lo"));
    }
}

/// Waits until the new IPv6 `address` can be reached, for which ip(8) does not wait. `on` has the
/// words of ip(8) for another host.
fn wait_for_route(on: &str, address: &str) {
    let end = Instant::now() + DEADLINE;
    let show = format!("{on}-6 route show table local {address}");
    let show = || program("ip", show.split(' ')).any_stdout().run().stdout;
    while show().is_empty() {
        assert!(Instant::now() < end, "{address} should have a route");
    }
}

/// From now on the kernel drops what is sent to `network`.
pub fn black_hole(network: &str) {
    let family = if network.contains(':') { "ip6" } else { "ip" };
    let rules = format!(
        "table inet hole_{family} {{\nchain input {{\n\
         type filter hook input priority 0\n{family} daddr {network} drop\n}}\n}}\n"
    );
    program("nft", ["-f", "-"]).stdin(rules).run();
}

/// From now on the kernel drops what routers tell of packets that are too large.
pub fn drop_too_large() {
    let rules = "table inet quiet {\nchain input {\ntype filter hook input priority 0\n\
                 icmp type destination-unreachable drop\nicmpv6 type packet-too-big drop\n}\n}\n";
    program("nft", ["-f", "-"]).stdin(rules).run();
}

impl Program {
    /// Runs the program on another host.
    pub fn on(self, host: &Host) -> Self {
        let name = &host.name;
        self.through(&format!("exec ip netns exec {name} \"$0\" \"$@\""))
    }

    /// Runs the program with the file `content` mounted on `place`.
    pub fn with_file(self, content: &Path, place: &str) -> Self {
        let content = content.display();
        self.through(&format!(
            "exec unshare --mount bash -c \
             'mount --bind {content} {place} && exec \"$0\" \"$@\"' \"$0\" \"$@\""
        ))
    }
}
