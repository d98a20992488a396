//! The wire between two ends of TLS: it records the pieces that pass it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::Peer;

/// The pieces that passed in both directions, in order. `true`: from the client. None of `bytes` is a FIN.
pub type Passed = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;

/// Relays one connection to `port`.
pub fn recorder(port: u16) -> (Peer, Passed) {
    let passed = Passed::default();
    let pieces = Arc::clone(&passed);
    let peer = Peer::listen(move |connection| {
        let target = TcpStream::connect(("127.0.0.1", port)).unwrap();
        target.set_nodelay(true).unwrap();
        std::thread::scope(|scope| {
            let client = connection.stream();
            scope.spawn(|| pass(&target, client, false, &pieces));
            pass(client, &target, true, &pieces);
        });
    });
    (peer, passed)
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, is_client: bool, passed: &Passed) {
    let mut buffer = [0; 1400];
    while let Ok(count) = from.read(&mut buffer) {
        let piece = &buffer[..count];
        passed.lock().unwrap().push((is_client, piece.to_vec()));
        if count == 0 || to.write_all(piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// The client, or the server, has sent its FIN when nothing more came from the other end.
#[track_caller]
pub fn expect_no_early_fin(passed: &Passed, of_client: bool) {
    let pieces = passed.lock().unwrap();
    let fin = pieces
        .iter()
        .position(|(is_client, piece)| *is_client == of_client && piece.is_empty())
        .expect("there was no FIN");
    let mut later = pieces[fin..].iter();
    let is_early = later.any(|(is_client, piece)| *is_client != of_client && !piece.is_empty());
    assert!(!is_early, "the FIN came before the end of the other side");
}

/// Whether the certificate passed unencrypted, as it does with TLS 1.2 only. Its CN is `own`.
pub fn is_tls12(passed: &Passed) -> bool {
    let pieces = passed.lock().unwrap();
    let from_server = pieces.iter().filter(|(is_client, _)| !is_client);
    let bytes: Vec<u8> = from_server.flat_map(|(_, piece)| piece.clone()).collect();
    bytes.windows(5).any(|part| part == b"\x0c\x03own")
}
