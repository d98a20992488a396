//! `netkit tcp-server`: where it listens, whom it serves and with what, and how it stops.

mod access;
mod events;
mod failing;
mod limits;
mod listening;
mod options;
mod service;
mod stopping;
mod tap;

use crate::harness::tcp_server;

#[test]
fn a_connection_is_logged_from_its_beginning_to_its_end() {
    let mut server = tcp_server([]).stderr("").listen();
    let address = server.address();
    server.expect_line(&format!("Listening on {address}"));
    server.expect_line("Waiting for connection...");
    let mut client = server.connect();
    server.expect_line(&format!("Accept new connection from {}...", client.local()));
    client.expect("Welcome!");
    client.shutdown();
    client.expect_eof();
    server.expect_line(&format!("Connection from {} closed.", client.local()));
    server.stop();
}
