//! Programs of others.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use socket2::{Domain, Socket, Type};

use super::program::{Process, Program, program};

/// A real peer, whose output and exit code may be anything. `nc` is OpenBSD's.
///
/// `None`, with a message, if it is not installed. `NETKIT_REQUIRE_PEERS=1` makes that a failure.
#[track_caller]
pub fn peer<'a>(name: &str, arguments: impl IntoIterator<Item = &'a str>) -> Option<Program> {
    let found = find(name).filter(|_| name != "nc" || is_openbsd());
    if found.is_none() {
        let required = std::env::var_os("NETKIT_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
    }
    let program = program(found?, arguments);
    Some(program.any_stdout().any_stderr().any_code())
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn is_openbsd() -> bool {
    let help = program("nc", ["-h"]).any_stdout().any_stderr().any_code();
    help.run().stderr.contains("OpenBSD")
}

/// A pipe that has no room. Its writing end blocks.
pub fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    while writer.write(&[0]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// What ss(8) prints about the sockets that match `filter`.
pub fn ss(options: &[&str], filter: &str) -> Option<String> {
    let arguments = options.iter().copied().chain([filter]);
    Some(String::from_utf8(peer("ss", arguments)?.code(0).run().stdout).unwrap())
}

/// nc, ncat and socat as UDP clients of `port` on this machine. They may go on after an answer.
pub fn udp_clients(port: u16) -> Vec<Process> {
    let port = port.to_string();
    let socat = format!("UDP:127.0.0.1:{port}");
    let clients: [(&str, &[&str]); 3] = [
        ("nc", &["-u", "127.0.0.1", &port]),
        ("ncat", &["-u", "127.0.0.1", &port]),
        ("socat", &["-", &socat]),
    ];
    let clients = clients.into_iter().filter_map(|(name, arguments)| {
        let client = peer(name, arguments.iter().copied())?;
        Some(client.stdin_open().start())
    });
    clients.collect()
}

/// ncat and socat as UDP servers that echo and are ready, each with its port.
pub fn udp_echoes() -> Vec<(Process, ReservedPort)> {
    let ncat = "-v -u -l -k -e /bin/cat 127.0.0.1 PORT";
    let socat = "-d -d UDP4-RECVFROM:PORT,bind=127.0.0.1,reuseaddr,fork PIPE";
    let servers = [
        ("ncat", ncat, "Ncat: Listening on {*}"),
        ("socat", socat, "{*} receiving on {*}"),
    ];
    let servers = servers.into_iter().filter_map(|(name, arguments, ready)| {
        let port = ReservedPort::udp();
        let arguments = arguments.replace("PORT", &port.text());
        let server = peer(name, arguments.split(' '))?.start();
        server.wait_for_line(ready);
        Some((server, port))
    });
    servers.collect()
}

/// The UDP server of the tutorial that the `hello` protocol is from, on a free port; its address.
pub fn python_udp_server() -> Option<(Process, String)> {
    const SERVER: &str = "\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
print('Bind UDP on %d...' % s.getsockname()[1])
while True:
    data, addr = s.recvfrom(1024)
    print('Received from %s:%s.' % addr)
    s.sendto(b'Hello, %s!' % data, addr)
";
    let mut server = peer("python3", ["-u", "-c", SERVER])?.start();
    let line = server.receive_line("Bind UDP on {N}...");
    let port = line.split([' ', '.']).nth(3).unwrap();
    Some((server, format!("127.0.0.1:{port}")))
}

/// A free port that the kernel gives to nobody else while this lives.
///
/// It is for programs that cannot choose a free port. They must set `SO_REUSEADDR`, as servers do,
/// or `SO_REUSEPORT` for UDP.
pub struct ReservedPort {
    socket: Socket,
}

impl ReservedPort {
    /// On 127.0.0.1.
    pub fn tcp() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), Type::STREAM)
    }

    /// On 127.0.0.1. A datagram to this port reaches only a connected socket.
    pub fn udp() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), Type::DGRAM)
    }

    pub fn on(ip: IpAddr, kind: Type) -> Self {
        let address = SocketAddr::new(ip, 0);
        let socket = Socket::new(Domain::for_address(address), kind, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        Self { socket }
    }

    pub fn number(&self) -> u16 {
        let address = self.socket.local_addr().unwrap();
        address.as_socket().unwrap().port()
    }

    pub fn text(&self) -> String {
        self.number().to_string()
    }
}
