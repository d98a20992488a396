//! The way to a peer: straight, or through one or more proxies (SOCKS 4, 4a, 5, 5h; HTTP CONNECT).
//!
//! A [`Dialer`] turns `--proxy` into hops, and a target into a [`Route`]: what is resolved here, and what
//! each proxy is asked for. An [`Attempt`] goes that way without blocking: a race to the first hop, then
//! a dialogue with each. What it returns is a plain connection; nobody who gets it knows the way. The
//! dialogues (`socks`, `http`) are pure. A `Tunnel` reads their answers by exact length: what the peer
//! sends behind an answer stays in the kernel.

mod attempt;
mod dialer;
mod hop;
mod http;
mod route;
mod socks;
mod surroundings;
mod tunnel;

pub use attempt::Attempt;
pub use dialer::Dialer;
pub use route::Route;

const PROXY: &str = "\
Connect through a proxy, or a chain of them

socks5h://[USER:PASSWORD@]HOST[:1080] and socks4a:// let the proxy resolve the name, socks5:// and \
socks4:// resolve it here. http://HOST[:3128] asks with CONNECT. Repeated, the first is the nearest. \
`env` takes ALL_PROXY, unless NO_PROXY names the host. NETKIT_PROXY_AUTH=USER:PASSWORD keeps \
credentials off the command line.";

#[derive(Clone, clap::Args)]
pub struct ProxyArgs {
    // Not a doc comment: rustdoc would look for what is in brackets.
    #[arg(long, value_name = "URL", help = "Connect through a proxy, or a chain of them", long_help = PROXY)]
    proxy: Vec<String>,
}
