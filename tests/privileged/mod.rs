//! What needs root: port 80, forged datagrams, networks of two hosts or with losses.
//!
//! `cargo test -- --ignored privileged` runs them.

mod connecting;
mod ending;
mod fetching;
mod following;
mod groups;
mod link_local;
mod listening;
mod mtu;
mod process_1;
mod resolving;
mod tcp_network;
mod udp_client;
mod udp_server;
