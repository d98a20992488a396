//! Keys: tshark decrypts a session by `SSLKEYLOGFILE`, and openssl changes the keys of one.

use std::fs;

use super::wire::recorder;
use super::{client, server, usual};
use crate::harness::{Program, named_pipe, peer};

/// A capture file (pcap, raw IPv4) of a TCP connection from port 50000 to 443 that carried `pieces`.
fn capture(pieces: &[(bool, Vec<u8>)]) -> Vec<u8> {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 101] {
        file.extend(word.to_le_bytes());
    }
    // The next sequence numbers of the client and of the server.
    let mut next = [100_u32, 200];
    let mut packet = |is_client: bool, flags: u8, data: &[u8], time: usize| {
        let (from, to) = if is_client { (0, 1) } else { (1, 0) };
        let size = u16::try_from(40 + data.len()).unwrap();
        for word in [0, u32::try_from(time).unwrap(), size.into(), size.into()] {
            file.extend(word.to_le_bytes());
        }
        // RFC 791, section 3.1; RFC 9293, section 3.1. Nobody looks at the checksums.
        file.extend([0x45, 0]);
        file.extend(size.to_be_bytes());
        file.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        file.extend([10, 0, 0, from, 10, 0, 0, to]);
        let ports = [50_000_u16, 443];
        file.extend(ports[usize::from(from)].to_be_bytes());
        file.extend(ports[usize::from(to)].to_be_bytes());
        file.extend(next[usize::from(from)].to_be_bytes());
        file.extend(next[usize::from(to)].to_be_bytes());
        file.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        file.extend(data);
        next[usize::from(from)] += u32::try_from(data.len()).unwrap() + u32::from(flags & SYN != 0);
    };
    packet(true, SYN, b"", 0);
    packet(false, SYN | ACK, b"", 1);
    packet(true, ACK, b"", 2);
    for (index, (is_client, piece)) in pieces.iter().enumerate() {
        packet(*is_client, ACK, piece, 3 + index);
    }
    file
}

/// What tshark shows of a session that was captured. `keys`: the file of its keys.
fn decrypted(file: &str, keys: &str) -> Option<String> {
    let option = format!("tls.keylog_file:{keys}");
    let arguments = [
        "-n",
        "-r",
        file,
        "-o",
        &option,
        "-q",
        "-z",
        "follow,tls,ascii,0",
    ];
    let run = peer("tshark", arguments)?.code(0).run();
    Some(String::from_utf8_lossy(&run.stdout).into_owned())
}

#[test]
fn tshark_decrypts_a_session_by_the_keys_of_either_side() {
    let files = usual();
    for (side, version) in [("client", "1.2"), ("server", "1.3")] {
        let keys = files.path(&format!("{side}.keys"));
        let with_keys = |program: Program, name| {
            if name == side {
                return program.env("SSLKEYLOGFILE", &keys);
            }
            program
        };
        let (own, key) = (files.path("own.pem"), files.path("own.key"));
        let serves = crate::harness::tcp_server(["--tls", "--tls-cert", &own, "--tls-key", &key]);
        let serves = with_keys(serves.args(["--tls-min", version]), "server").listen();
        let (proxy, passed) = recorder(serves.port());
        with_keys(client(&files, proxy.address()), "client")
            .any_stderr()
            .args(["--lockstep", "--send", "Ronald", "--send", "exit"])
            .stdout("Welcome!Hello, Ronald!")
            .run();
        proxy.finish();
        let file = files.path("session.pcap");
        fs::write(&file, capture(&passed.lock().unwrap())).unwrap();
        let Some(shown) = decrypted(&file, &keys) else {
            return;
        };
        for text in ["Welcome!", "Ronald", "Hello, Ronald!", "exit"] {
            assert!(shown.contains(text), "{side}: {shown}");
        }
        // Without the keys nothing is to be seen.
        let shown = decrypted(&file, &files.path("nothing")).unwrap();
        assert!(!shown.contains("Welcome!"), "{side}: {shown}");
    }
}

/// To open a named pipe for writing blocks until somebody reads it (fifo(7)).
#[test]
fn a_named_pipe_that_nobody_reads_is_no_place_for_keys_and_certificates() {
    let files = usual();
    let server = server(&files, "own", &["--service", "echo"]);
    let pipe = files.path("pipe");
    named_pipe(pipe.as_ref());
    let with_chain = client(&files, &server.address()).args(["--tls-save-chain", &pipe]);
    let with_keys = client(&files, &server.address()).env("SSLKEYLOGFILE", &pipe);
    for (program, option) in [(with_chain, ""), (with_keys, " (SSLKEYLOGFILE)")] {
        let message = format!("could not write {pipe}{option}: {{*}}\n");
        program.stderr(format!("netkit: {message}")).code(2).run();
    }
}

#[test]
fn openssl_as_a_client_changes_the_keys_of_both_directions() {
    let files = usual();
    let server = server(&files, "own", &["--service", "echo"]);
    let (ca, address) = (files.path("ca.pem"), format!("localhost:{}", server.port()));
    let arguments = ["s_client", "-brief", "-CAfile", &ca, "-connect", &address];
    let Some(openssl) = peer("openssl", arguments) else {
        return;
    };
    let mut openssl = openssl.stdin_open().start();
    openssl.wait_for_line("{*}Verification: OK");
    openssl.send("one\n");
    openssl.receive("one\n");
    // `K` asks us for new keys too, `k` does not. A command is a read of its own.
    for (command, text) in [("K\n", "two\n"), ("k\n", "three\n"), ("K\n", "four\n")] {
        let done = openssl.log().matches("KEYUPDATE").count() + 1;
        openssl.send(command);
        openssl.wait_for_lines("KEYUPDATE", done);
        openssl.send(text);
        openssl.receive(text);
    }
    openssl.close_input();
    openssl.finish();
    server.wait_for_line("Connection from {*} closed.");
}
