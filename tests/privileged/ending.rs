//! A TCP client notices that its peer is gone while its own input pauses.

use std::time::Duration;

use crate::harness::namespace::in_namespace;
use crate::harness::{Peer, netkit, program};

#[test]
#[ignore = "needs root"]
fn a_peer_that_is_gone_during_a_pause_is_an_error() {
    in_namespace(|| {
        // After this time the kernel of a peer that has closed answers no more (tcp(7)).
        let setting = "net.ipv4.tcp_fin_timeout=2";
        program("sysctl", ["-q", "-w", setting]).run();
        let peer = Peer::listen(|mut connection| connection.expect("row 1"));
        let client = netkit(["tcp-client", peer.address()])
            .stdin_open()
            .stderr(
                "netkit: the peer has ended; input is still open (--half-close-wait 0 leaves at once)\n\
                 netkit: could not send everything to {*}: the peer has closed the connection; \
                 5 bytes were sent\n",
            )
            .code(1)
            .within(Duration::from_secs(60))
            .start();
        client.send("row 1");
        client.finish();
    });
}
