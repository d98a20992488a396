//! Addresses, names and sockets. A target is typed ([`target`], [`address`]), resolved to addresses
//! ([`resolve`]), and connected to ([`connect`]); [`socket`] opens every socket with its
//! [`options`]. Only this folder uses socket2.

pub mod address;
pub mod backlog;
pub mod connect;
pub mod datagram;
pub mod follow;
pub mod headers;
pub mod listener;
pub mod multicast;
pub mod options;
pub mod pacing;
pub mod path_mtu;
pub mod peer;
pub mod race;
pub mod resolve;
pub mod services;
pub mod socket;
pub mod stream;
pub mod target;
pub mod unix;
