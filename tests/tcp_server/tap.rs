//! `-x` and `--record`: the server writes down the traffic.

use std::fs;

use crate::harness::{bytes_of_dump, matches, netkit, tcp_server, temporary_folder};

#[test]
fn the_lines_of_two_connections_never_mix() {
    let folder = temporary_folder();
    let (dump, record) = (folder.path().join("dump"), folder.path().join("record"));
    let server = tcp_server(["-x", dump.to_str().unwrap()])
        .arg("--record")
        .arg(&record)
        .arg("-e")
        .arg("/bin/cat")
        .listen();
    let bytes: Vec<_> = (0..4_u8)
        .map(|number| vec![b'a' + number; 50_000])
        .collect();
    let clients: Vec<_> = bytes
        .iter()
        .map(|bytes| {
            netkit(["tcp-client", &server.address()])
                .stdin(bytes)
                .stdout(bytes)
                .start()
        })
        .collect();
    for client in clients {
        client.finish();
    }
    server.wait_for_lines("Connection from {*} closed.", 4);
    let dump = fs::read_to_string(dump).unwrap();
    let mut seen: Vec<_> = (1..=4)
        .map(|number| bytes_of_dump(&dump, &format!("#{number} < ")))
        .collect();
    seen.sort();
    let sizes = seen.iter().map(Vec::len);
    assert!(seen == bytes, "{:?}", sizes.collect::<Vec<_>>());
    let record = fs::read(record).unwrap();
    let mut rest = &record[..];
    let mut total = 0;
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap();
        let head = str::from_utf8(&rest[..end]).unwrap();
        assert!(matches(b"#{*} {*} {*}Z {*}", head.as_bytes()), "{head}");
        let length: usize = head.rsplit_once(' ').unwrap().1.parse().unwrap();
        let piece = &rest[end + 1..][..length];
        assert!(piece.iter().all(|&byte| byte == piece[0]), "{head}");
        total += length;
        rest = rest[end + 1 + length..].strip_prefix(b"\n").unwrap();
    }
    assert_eq!(total, 8 * 50_000);
}

#[test]
fn a_server_that_cannot_listen_overwrites_no_record() {
    let folder = temporary_folder();
    let file = folder.path().join("record");
    fs::write(&file, "precious").unwrap();
    let first = tcp_server([]).listen();
    netkit(["tcp-server", "-p", &first.port().to_string(), "--record"])
        .arg(&file)
        .arg("-e")
        .arg("/bin/cat")
        .any_stderr()
        .code(2)
        .run();
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
}
