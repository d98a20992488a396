//! How many datagrams a UDP server answers in a second.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::contest::{Better, Measure, Row};
use crate::programs::{Program, Table, find, free_port, netkit};

/// The argument that makes this program the bare server.
pub const BARE: &str = "--bare-udp-server";

const MESSAGE: &[u8] = b"sixteen bytes ..";
const ANSWER: &[u8] = b"Hello, sixteen bytes ..!";

const PYTHON: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', int(sys.argv[1])))
while True:
    data, addr = s.recvfrom(1024)
    print('Received from %s:%s.' % addr)
    s.sendto(b'Hello, %s!' % data, addr)
";

/// The bare server: one thread, `recv_from`, `send_to`, nothing else.
pub fn bare(port: u16) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut buffer = vec![0; 7 + 65536 + 1];
    buffer[..7].copy_from_slice(b"Hello, ");
    loop {
        let (size, source) = socket.recv_from(&mut buffer[7..65543])?;
        buffer[7 + size] = b'!';
        socket.send_to(&buffer[..=7 + size], source)?;
    }
}

pub fn answers(outstanding: u32) -> anyhow::Result<Row> {
    let mut row = Row::new(
        format!("answers to datagrams of 16 bytes, {outstanding} outstanding"),
        vec![Measure {
            unit: "a second",
            better: Better::More,
        }],
    );
    let server = |log: &[&str]| {
        let mut command = netkit();
        command.args(log).args(["udp-server", "-p"]);
        command
    };
    let mut bare = Command::new(std::env::current_exe()?);
    bare.arg(BARE);
    let mut servers = vec![
        ("netkit -q", server(&["-q"])),
        ("netkit, logging", server(&[])),
        ("bare recv_from and send_to", bare),
    ];
    match find("python3") {
        Some(python) => {
            let mut command = Command::new(python);
            command.args(["-c", PYTHON]);
            servers.push(("python3", command));
        }
        None => row.is_missing("python3"),
    }
    for (name, mut command) in servers {
        let mut server: Option<(Program, SocketAddr)> = None;
        row.add(name, move |_| {
            if server.is_none() {
                let port = free_port(Table::Udp)?;
                let program = Program::serve(command.arg(port.to_string()), port, Table::Udp)?;
                server = Some((program, (Ipv4Addr::LOCALHOST, port).into()));
            }
            let (_, address) = server.as_ref().context("it did not start")?;
            ask(*address, outstanding)
        });
    }
    Ok(row)
}

fn ask(server: SocketAddr, outstanding: u32) -> anyhow::Result<Vec<f64>> {
    const TIME: Duration = Duration::from_millis(300);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let start = Instant::now();
    for _ in 0..outstanding {
        socket.send(MESSAGE)?;
    }
    let mut buffer = [0; 64];
    let mut answered = 0;
    let mut waiting = outstanding;
    while waiting > 0 {
        let size = socket.recv(&mut buffer).context("an answer was lost")?;
        ensure!(&buffer[..size] == ANSWER, "a wrong answer");
        answered += 1;
        waiting -= 1;
        if start.elapsed() < TIME {
            socket.send(MESSAGE)?;
            waiting += 1;
        }
    }
    Ok(vec![f64::from(answered) / start.elapsed().as_secs_f64()])
}
