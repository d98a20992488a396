//! The way to a peer: straight, or through one or more proxies (SOCKS 4, 4a, 5, 5h; HTTP CONNECT).
//!
//! A [`Dialer`] turns `--proxy` into hops, and a target into a [`Route`]: what is resolved here, and what
//! each proxy is asked for. An [`Attempt`] goes that way without blocking: a race to the first hop, then
//! a dialogue with each. What it returns is a plain connection; nobody who gets it knows the way. The
//! dialogues (`socks`, `http`) are pure. A `Tunnel` reads their answers by exact length: what the peer
//! sends behind an answer stays in the kernel.

mod attempt;
mod dialer;
pub mod header;
mod hop;
mod http;
mod retries;
mod route;
mod socks;
mod surroundings;
mod tunnel;

use std::net::SocketAddr;

use rustix::net::SendFlags;

use crate::exit::{Failure, blame};
use crate::net::stream::Stream;
pub use attempt::Attempt;
pub use dialer::Dialer;
use header::{Ends, Version};
pub use route::Route;

/// The PROXY protocol header that a connection begins with.
#[derive(Clone, clap::Args)]
pub struct HeaderArgs {
    /// Begin with a PROXY protocol header [default: v1]
    ///
    /// The header of haproxy names the two addresses of the connection; with --forward those of the client,
    /// and of the address that it connected to.
    #[arg(long, value_name = "VERSION", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "v1")]
    send_proxy: Option<Version>,
    /// Name IP:PORT as the source in that header
    #[arg(long, value_name = "IP:PORT", value_parser = socket_address)]
    send_proxy_from: Option<SocketAddr>,
}

impl HeaderArgs {
    /// Sends the header, if one is asked for, in one piece. `ends`: what it names, if that is known. `name`
    /// is that of the peer.
    pub fn send(
        &self,
        stream: &Stream,
        ends: impl FnOnce() -> Option<Ends>,
        name: &str,
    ) -> Result<(), Failure> {
        let usual = self.send_proxy_from.map(|_| Version::V1);
        let Some(version) = self.send_proxy.or(usual) else {
            return Ok(());
        };
        let ends = match (ends(), self.send_proxy_from) {
            (Some(Ends { destination, .. }), Some(source))
                if source.is_ipv4() != destination.is_ipv4() =>
            {
                return Err(Failure::local(format!(
                    "--send-proxy-from {source} has another family than {destination}; -4 and -6 choose one"
                )));
            }
            (Some(ends), Some(source)) => Some(Ends { source, ..ends }),
            (ends, _) => ends,
        };
        let header = header::encode(version, ends);
        // The buffer of a new connection takes it whole.
        let sent = stream.send(&header, SendFlags::empty());
        let sent = sent.map_err(|error| {
            let sentence = format!("could not send the PROXY header to {name}");
            Failure::of(blame(&error), sentence, &error)
        })?;
        debug_assert_eq!(sent, header.len());
        Ok(())
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("'{text}' is not an IP address with a port; write 10.0.0.2:4711 or [fd00::2]:4711")
    })
}

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
