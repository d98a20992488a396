//! Real peers, in both directions and over both families.

mod captures;
mod proxies;
mod roads;
mod senders;
mod tcp_client;
mod tcp_server;
mod tutorial;
mod udp;

const ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];

/// The address as socat writes it.
fn in_brackets(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}
