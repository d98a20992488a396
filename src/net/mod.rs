//! Addresses, names, connections and sockets: everything that names an address. Only this folder
//! uses socket2.

pub mod address;
pub mod connect;
pub mod datagram;
pub mod multicast;
pub mod resolve;
pub mod socket;
pub mod stream;
