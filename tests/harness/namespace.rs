//! A network of its own for one test (network namespaces; needs root), so that nothing outside it
//! is touched.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::program::{Program, program};
use super::{DEADLINE, spawn};

/// Runs `test` in a new network that has nothing but a loopback interface. All threads and programs
/// that it starts are in it too.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let name = new_name();
    program("ip", ["netns", "add", &name]).run();
    let namespace = File::open(Path::new("/run/netns").join(&name)).unwrap();
    // From here on it lives as long as somebody is in it.
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

/// Another host, with a wire between it and this one. This one's end is the interface `near`, with
/// `192.0.2.1`, `2001:db8::1` and `fe80::1`; the other's is `far`, with the same that end in 2.
pub struct Host {
    name: String,
}

impl Host {
    /// Within [`in_namespace`].
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
            // The system would take its time over one of its own.
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

    /// The name of its network, for ip(8).
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
        // Without `nodad` it cannot be used for a second.
        ip(&format!("address add {address} dev lo nodad"));
        wait_for_route("", address);
    } else {
        ip(&format!("address add {address} dev lo"));
    }
}

/// Waits until the new IPv6 `address` can be reached, of which ip(8) does not wait for the end. `on`
/// are its words for another host.
fn wait_for_route(on: &str, address: &str) {
    let end = Instant::now() + DEADLINE;
    let show = format!("{on}-6 route show table local {address}");
    let show = || program("ip", show.split(' ')).any_stdout().run().stdout;
    while show().is_empty() {
        assert!(Instant::now() < end, "{address} should have a route");
    }
}

/// From now on what is sent to `network` gets lost.
pub fn black_hole(network: &str) {
    let family = if network.contains(':') { "ip6" } else { "ip" };
    let rules = format!(
        "table inet hole_{family} {{\nchain input {{\n\
         type filter hook input priority 0\n{family} daddr {network} drop\n}}\n}}\n"
    );
    program("nft", ["-f", "-"]).stdin(rules).run();
}

impl Program {
    /// Runs on another host.
    pub fn on(self, host: &Host) -> Self {
        let name = &host.name;
        self.through(&format!("exec ip netns exec {name} \"$0\" \"$@\""))
    }

    /// Runs with the file `content` in the place of the file `place`.
    pub fn with_file(self, content: &Path, place: &str) -> Self {
        let content = content.display();
        self.through(&format!(
            "exec unshare --mount bash -c \
             'mount --bind {content} {place} && exec \"$0\" \"$@\"' \"$0\" \"$@\""
        ))
    }
}
