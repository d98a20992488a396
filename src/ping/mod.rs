//! What the pings of both clients share: the numbers, and what they print.

pub mod report;
pub mod statistics;
