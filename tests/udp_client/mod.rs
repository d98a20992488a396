//! `netkit udp-client`: datagrams and their answers, pings, a relay and a check.

mod check;
mod exchange;
mod groups;
mod options;
mod ping;
mod relay;
mod tap;
mod usage;
