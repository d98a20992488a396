//! `netkit udp-client`: exchanges of datagrams, pings, relays and checks of ports.

mod check;
mod exchange;
mod groups;
mod mtu;
mod options;
mod ping;
mod relay;
mod tap;
mod usage;
