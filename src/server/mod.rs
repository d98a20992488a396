//! What both servers share: where they listen, which peers they let in, and the programs they run.

pub mod access;
pub mod busy_poll;
pub mod episode;
pub mod host;
pub mod listen;
pub mod program;
pub mod stop;
pub mod systemd;
