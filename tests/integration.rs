//! All tests that run the binary, as users do.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `harness` | runs programs with a deadline, plays the other end of a connection |
//! | `cli` | the command line, its messages and exit codes; standard streams |
//! | `help` | the help texts, letter by letter |
//! | `tcp_client` | endings, limits, what is sent and what is printed |
//! | `tcp_server` | services, limits, where it listens, how it stops |
//! | `tcp_options` | access, events, dumps, socket options, trying again, checking ports |
//! | `tcp_services` | programs, other servers, standard input and output, brokers |
//! | `udp` | datagrams and their answers, late ones, refusals; with other people's programs |
//! | `udp_server` | who is let in, what is written down; standard input, programs, multicast |
//! | `udp_ping` | probes: times, statistics, limits; through a network that loses and delays |
//! | `interop` | real peers in both directions, and much data |
//! | `readme` | what the README shows is what happens |
//! | `privileged` | what needs root: port 80, other networks; `cargo test -- --ignored privileged` |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod harness;

mod cli;
mod help;
mod interop;
#[cfg(target_os = "linux")]
mod privileged;
mod readme;
mod tcp_client;
mod tcp_options;
mod tcp_server;
mod tcp_services;
mod udp;
mod udp_ping;
mod udp_server;
