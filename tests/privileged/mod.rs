//! What needs root: port 80, forged datagrams, networks of two hosts or with losses.
//!
//! `cargo test -- --ignored privileged` runs them.

mod connecting;
mod fetching;
mod groups;
mod link_local;
mod listening;
mod udp_client;
mod udp_server;
