//! Wireshark's programs read what `--record FILE.pcapng` has written.

use std::path::Path;

use crate::harness::{Peer, netkit, peer, random_bytes, tcp_server, temporary_folder, udp_server};

/// What tshark says about the packets of `file` with these options. `None`: it is not installed.
fn tshark(file: &Path, options: &[&str]) -> Option<String> {
    // Where checksums are wrong, or nothing was read, it says so with the packets.
    let checks = ["tcp", "udp", "ip"].map(|protocol| format!("{protocol}.check_checksum:TRUE"));
    let mut program = peer("tshark", ["-n", "-r", file.to_str()?])?;
    for check in &checks {
        program = program.args(["-o", check]);
    }
    let finished = program.args(options.iter().copied()).code(0).run();
    Some(String::from_utf8(finished.stdout).unwrap())
}

/// Asserts that tshark finds no fault.
fn is_flawless(file: &Path) {
    let faults = "tcp.analysis.flags || _ws.malformed || tcp.checksum.status == 0 || \
        udp.checksum.status == 0 || ip.checksum.status == 0";
    if let Some(found) = tshark(file, &["-Y", faults]) {
        assert_eq!(found, "");
    }
}

/// The bytes of a stream, by `follow`: those of its client, and those of its server.
fn follow(file: &Path, number: usize) -> Option<[Vec<u8>; 2]> {
    let ask = format!("follow,tcp,raw,{number}");
    let text = tshark(file, &["-q", "-z", &ask])?;
    let mut bytes = [Vec::new(), Vec::new()];
    for line in text.lines() {
        let digits = line.trim_start_matches('\t');
        let is_data = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let side = usize::from(line.starts_with('\t'));
        for at in (0..digits.len()).step_by(2).filter(|_| is_data) {
            bytes[side].push(u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
        }
    }
    Some(bytes)
}

#[test]
fn tshark_follows_each_connection_of_a_server_byte_for_byte() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let server = tcp_server(["--sh-exec", "cat", "--record"])
        .arg(&file)
        .listen();
    let bytes: Vec<_> = [1, 70_000, 300_000].map(random_bytes).into();
    for bytes in &bytes {
        netkit(["tcp-client", &server.address()])
            .stdin(bytes)
            .stdout(bytes)
            .run();
    }
    server.wait_for_lines("Connection from {*} closed.", bytes.len());
    let _ = server.stop();
    is_flawless(&file);
    for (number, bytes) in bytes.iter().enumerate() {
        if let Some([asked, answered]) = follow(&file, number) {
            assert!(&asked == bytes && &answered == bytes, "{number}");
        }
    }
    if let Some(info) = peer("capinfos", ["-c", "-E", "-M", file.to_str().unwrap()]) {
        let info = String::from_utf8(info.code(0).run().stdout).unwrap();
        assert!(info.contains("rawip"), "{info}");
    }
}

#[test]
fn tshark_dissects_the_http_of_a_connection() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n\
        {\"hello\": \"x\"}";
    let peer = Peer::listen(move |mut connection| {
        connection.receive();
        connection.send(answer);
        connection.shutdown();
        connection.drain();
    });
    netkit(["tcp-client", "--get", "/page", peer.address(), "--record"])
        .arg(&file)
        .stdout(answer)
        .run();
    is_flawless(&file);
    let fields = [
        "-T",
        "fields",
        "-e",
        "http.request.uri",
        "-e",
        "http.response.code",
    ];
    let options: Vec<_> = ["-Y", "http"].into_iter().chain(fields).collect();
    if let Some(found) = tshark(&file, &options) {
        assert_eq!(found, "/page\t\n\t200\n");
    }
}

#[test]
fn tshark_reads_datagrams_resets_ipv6_and_more_sections() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let server = udp_server([]).listen();
    netkit(["udp-client", &server.address(), "a", "--record"])
        .arg(&file)
        .stdout("Hello, a!\n")
        .run();
    let tcp = netkit(["tcp-server", "[::1]:0", "--idle-timeout", "0.1", "--append"])
        .arg("--record")
        .arg(&file)
        .any_stderr()
        .any_code()
        .listen();
    let address = tcp.addresses(1)[0].to_string();
    netkit(["tcp-client", &address])
        .stdin_open()
        .stdout("Welcome!")
        .any_stderr()
        .code(1)
        .start()
        .finish();
    tcp.wait_for_line("Connection from {*} closed: {*}");
    is_flawless(&file);
    let fields = [
        "-T",
        "fields",
        "-e",
        "_ws.col.Protocol",
        "-e",
        "tcp.flags.str",
    ];
    if let Some(found) = tshark(&file, &fields) {
        let lines: Vec<_> = found.lines().map(|line| line.replace('·', "")).collect();
        assert_eq!(
            lines,
            [
                "UDP\t", "UDP\t", "TCP\tS", "TCP\tAS", "TCP\tA", "TCP\tAP", "TCP\tAR"
            ]
        );
    }
}
