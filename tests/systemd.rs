//! Servers that systemd starts: its part is played by Python, and by systemd-socket-activate(1).

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Process, ReservedPort, netkit, netkit_path, peer, tcp_server, temporary_folder,
};

/// The page with the units that a user copies.
const PAGE: &str = include_str!("../docs/roads.md");

/// Each unit of the page: its name, and its text.
fn units() -> Vec<(&'static str, &'static str)> {
    let blocks = PAGE.split("```ini\n# /etc/systemd/system/").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| block.split_once('\n').unwrap())
        .collect()
}

/// The value of a key that stands once in the units.
fn value(key: &str) -> &'static str {
    let lines = units().into_iter().flat_map(|(_, text)| text.lines());
    let mut values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next().unwrap()
}

/// Opens the sockets of `KINDS`, passes them from descriptor 3 on, prints where they are, and becomes
/// netkit. What is `missing` is counted only.
const PARENT: &str = r"
import os, socket, sys
kinds, pid = sys.argv[1].split(','), sys.argv[2]
passed = []
for kind in kinds:
    if kind == 'missing': continue
    if kind == 'unix':
        s = socket.socket(socket.AF_UNIX); s.bind(os.environ['PLACE']); s.listen()
    elif kind == 'udp':
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))
    else:
        s = socket.socket(); s.bind(('127.0.0.1', 0))
        if kind == 'tcp': s.listen()
    passed.append(os.dup(s.fileno()))
high = [os.dup2(fd, 50 + i) for i, fd in enumerate(passed)]
for i, fd in enumerate(high): os.dup2(fd, 3 + i)
os.environ.update(LISTEN_FDS=str(len(kinds)), LISTEN_PID=pid or str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
";

/// netkit with `arguments` as systemd starts it.
fn activated(kinds: &str, pid: &str, arguments: &[&str]) -> Option<crate::harness::Program> {
    let program = peer("python3", ["-c", PARENT, kinds, pid, netkit_path()])?;
    Some(program.args(arguments.iter().copied()))
}

fn address(server: &Process) -> String {
    let line = server.wait_for_line("Listening on 127.0.0.1:{N}");
    line.strip_prefix("Listening on ").unwrap().to_owned()
}

#[test]
fn a_server_listens_on_what_is_passed_and_leaves_its_file() {
    let folder = temporary_folder();
    let path = folder.path().join("socket");
    let server = activated("tcp,unix", "", &["tcp-server", "--bind", "systemd"]);
    let Some(server) = server else { return };
    let server = server.env("PLACE", &path).code(0).start();
    let unix = format!("unix:{}", path.display());
    server.wait_for_line(&format!("Listening on {unix}"));
    for target in [&address(&server), &unix] {
        netkit(["tcp-client", target])
            .stdin("Bob")
            .stdout("Welcome!Hello, Bob!")
            .run();
    }
    server.signal(Signal::TERM);
    server.finish();
    assert!(path.exists());
}

#[test]
fn a_udp_server_answers_on_what_is_passed() {
    let Some(server) = activated("udp", "", &["udp-server", "--bind", "systemd"]) else {
        return;
    };
    let server = server.code(0).start();
    netkit(["udp-client", &address(&server), "Bob"])
        .stdout("Hello, Bob!\n")
        .run();
    server.signal(Signal::TERM);
    server.finish();
}

#[test]
fn what_is_of_another_kind_or_for_another_process_is_refused() {
    let nothing = "it has passed nothing (LISTEN_FDS, LISTEN_PID)";
    let stream = "descriptor 3 is not a socket that listens for streams (ListenStream=, Accept=no)";
    for (kinds, pid, command, why) in [
        ("udp", "", "tcp-server", stream),
        ("bound", "", "tcp-server", stream),
        (
            "tcp,missing",
            "",
            "tcp-server",
            "descriptor 4 is not a socket that listens for streams (ListenStream=, Accept=no)",
        ),
        (
            "tcp",
            "",
            "udp-server",
            "descriptor 3 is not a socket for datagrams of UDP (ListenDatagram=)",
        ),
        ("tcp", "1", "tcp-server", nothing),
    ] {
        let Some(server) = activated(kinds, pid, &[command, "-b", "systemd"]) else {
            return;
        };
        server
            .code(2)
            .stderr(format!(
                "netkit: could not listen on what systemd passes: {why}\n"
            ))
            .run();
    }
    for arguments in [&["-p", "80"][..], &["-b", "127.0.0.1"], &["80"]] {
        netkit(["tcp-server", "-b", "systemd"].iter().chain(arguments))
            .code(2)
            .stderr(
                "netkit: --bind systemd takes the places from systemd: name no other, and no port; \
                 see 'netkit tcp-server -h'\n",
            )
            .run();
    }
    netkit(["tcp-server", "-b", "systemd", "--ttl", "3"])
        .code(2)
        .stderr("netkit: --ttl does nothing with --bind systemd; see 'netkit tcp-server -h'\n")
        .run();
}

#[test]
fn systemd_is_told_once_when_a_server_listens_and_when_it_stops() {
    let folder = temporary_folder();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let next = || {
        let mut text = [0; 64];
        let count = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..count]).into_owned()
    };
    for command in ["tcp-server", "udp-server"] {
        let server = netkit([command, "-p", "0"])
            .env("NOTIFY_SOCKET", &path)
            .any_stderr();
        let server = server.start();
        assert_eq!(next(), "READY=1");
        server.wait_for_line("Listening on {*}");
        server.signal(Signal::TERM);
        assert_eq!(next(), "STOPPING=1");
        server.finish();
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 64]).is_err());
        socket.set_nonblocking(false).unwrap();
    }
}

#[test]
fn programs_see_none_of_the_variables() {
    let script = "echo [$LISTEN_FDS$LISTEN_PID$LISTEN_FDNAMES$NOTIFY_SOCKET]";
    let server = activated(
        "tcp",
        "",
        &["tcp-server", "-b", "systemd", "--sh-exec", script],
    );
    let Some(server) = server else { return };
    let server = server
        .env("LISTEN_FDNAMES", "x")
        .env("NOTIFY_SOCKET", "/nowhere")
        .start();
    netkit(["tcp-client", &address(&server)])
        .stdin("")
        .stdout("[]\n")
        .run();
}

#[test]
fn systemd_understands_the_units_of_the_page() {
    let folder = temporary_folder();
    let mut files = Vec::new();
    for (name, text) in units() {
        let file = folder.path().join(name);
        let text = text.replace("/usr/bin/netkit", netkit_path());
        std::fs::write(&file, text).unwrap();
        files.push(file);
    }
    assert_eq!(files.len(), 2);
    if let Some(systemd) = peer("systemd-analyze", ["verify"]) {
        systemd.args(files).code(0).run();
    }
}

#[test]
fn the_units_of_the_page_start_a_server_with_its_first_connection() {
    let folder = temporary_folder();
    let notify = folder.path().join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let (target, port) = (tcp_server([]).listen(), ReservedPort::tcp());
    let place = value("ListenStream").replace(":80", &format!(":{}", port.text()));
    let words = value("ExecStart").replace("127.0.0.1:8080", &target.address());
    let program = words.strip_prefix("/usr/bin/netkit ").unwrap();
    let variable = format!("NOTIFY_SOCKET={}", notify.display());
    let options = ["-l", &place, "-E", &variable, netkit_path()];
    let Some(systemd) = peer("systemd-socket-activate", options) else {
        return;
    };
    let server = systemd.args(program.split(' ')).start();
    server.wait_for_line(&format!("Listening on {place} as 3."));
    netkit(["tcp-client", &place])
        .stdin("Bob")
        .stdout("Welcome!Hello, Bob!")
        .run();
    let next = || {
        let mut text = [0; 64];
        let count = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..count]).into_owned()
    };
    assert_eq!(next(), "READY=1");
    server.signal(Signal::TERM);
    assert_eq!(next(), "STOPPING=1");
    server.finish();
}
