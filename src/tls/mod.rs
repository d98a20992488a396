//! TLS 1.2 and 1.3, for both ends of a TCP connection.
//!
//! A [`Session`] has a socket and an engine (rustls), and moves no byte by itself: its user waits for
//! the socket with poll(2). A [`Connector`] shakes hands as a client, an
//! [`Acceptor`] as a server. Only this folder names rustls. Built without the cargo feature `tls`,
//! `disabled` has the same face: it refuses each option by its name.

mod args;

#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod client;
#[cfg(feature = "tls")]
mod distrust;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod report;
#[cfg(feature = "tls")]
mod server;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
mod verify;
#[cfg(feature = "tls")]
mod words;

#[cfg(not(feature = "tls"))]
mod disabled;

pub use args::{ClientTlsArgs, ServerTlsArgs, check_options};
#[cfg(feature = "tls")]
pub use client::Connector;
#[cfg(not(feature = "tls"))]
pub use disabled::{Acceptor, Connector, Session};
#[cfg(feature = "tls")]
pub use server::Acceptor;
#[cfg(feature = "tls")]
pub use session::Session;
