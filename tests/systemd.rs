//! Servers that systemd starts: its part is played by Python.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::harness::{DEADLINE, Process, netkit, netkit_path, peer, temporary_folder};

/// Opens the sockets of `KINDS`, passes them from descriptor 3 on, prints where they are, and becomes
/// netkit.
const PARENT: &str = r"
import os, socket, sys
kinds, pid = sys.argv[1].split(','), sys.argv[2]
passed = []
for kind in kinds:
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
os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_PID=pid or str(os.getpid()))
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
