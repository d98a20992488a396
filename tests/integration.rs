//! All tests that run the binary, as users do.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `harness` | runs programs with a deadline, plays the other end of a connection |
//! | `cli` | the command line, its messages and exit codes; standard streams |
//! | `help` | the help texts, letter by letter |
//! | `json` | the events of all modes: one name for one thing |
//! | `logging` | no client, accept or stop waits for a log line |
//! | `proxy_header` | the PROXY protocol |
//! | `proxy` | the way through SOCKS and HTTP proxies |
//! | `readme` | what the README and docs/ show is what happens |
//! | `recipes` | the recipes of docs/recipes.md do what they say |
//! | `relay` | much data, out and back |
//! | `systemd` | servers that systemd starts |
//! | `tap` | `-x` and `--record` into files, pipes and terminals; what they hold up |
//! | `tcp_client` | how a session ends, what is sent and printed; checks and pings |
//! | `tcp_server` | services, limits, access, where it listens, how it stops |
//! | `tls` | encrypted sessions: ends, certificates, real peers |
//! | `udp_client` | datagrams and their answers, pings, a relay, a check |
//! | `udp_server` | services, access, the log, programs, multicast |
//! | `torture` | each system call fails once; `cargo test -- --ignored torture` |
//! | `unix` | Unix sockets, and the file of a server |
//! | `without_tls` | a netkit that was built without TLS |
//! | `interop` | real peers, in both directions |
//! | `privileged` | what needs root: port 80, other networks; `cargo test -- --ignored privileged` |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod harness;

mod cli;
mod generate;
mod help;
mod interop;
mod json;
mod logging;
mod max_rate;
#[cfg(target_os = "linux")]
mod privileged;
mod progress;
mod proxy;
mod proxy_header;
mod readme;
mod recipes;
mod relay;
mod systemd;
mod tap;
mod tcp_client;
mod tcp_server;
#[cfg(feature = "tls")]
mod tls;
#[cfg(target_os = "linux")]
mod torture;
mod udp_client;
mod udp_server;
mod unix;
#[cfg(not(feature = "tls"))]
mod without_tls;
