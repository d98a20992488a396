//! How much of a measured ping time is netkit's own: compared with a bare loop of send and receive.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::contest::{Measure, Row};
use crate::programs::{Program, Table, free_port, netkit};

const COUNT: usize = 200;
const INTERVAL: Duration = Duration::from_millis(1);
const SIZE: usize = 56;

pub fn time() -> anyhow::Result<Row> {
    let title = format!("median time of {COUNT} pings of {SIZE} bytes, one every {INTERVAL:?}");
    let mut row = Row::new(title, vec![Measure::less("us")]);
    let port = free_port(Table::Udp)?;
    let mut server = netkit();
    server.args(["-q", "udp-server", "--service", "echo", "-p"]);
    let server = Program::serve(server.arg(port.to_string()), port, Table::Udp)?;
    // Both contestants use the server; it ends with the last of them.
    let server = Rc::new(server);
    let kept = Rc::clone(&server);
    row.add("netkit", move |_| {
        let _server = &kept;
        by_netkit(netkit(), port)
    });
    row.add("bare send and recv", move |_| {
        let _server = &server;
        bare(port)
    });
    Ok(row.with_rounds(9))
}

fn by_netkit(mut command: Command, port: u16) -> anyhow::Result<Vec<f64>> {
    let (count, size) = (COUNT.to_string(), SIZE.to_string());
    let interval = INTERVAL.as_secs_f64().to_string();
    command.args(["-q", "udp-client", "--json", "-c", &count, "-s", &size]);
    command.args(["-i", &interval, &format!("127.0.0.1:{port}")]);
    let output = command.output()?;
    ensure!(output.status.success(), "it lost some: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().next_back().context("it printed nothing")?;
    let summary: Value = serde_json::from_str(last)?;
    let median = summary["rtt_p50_ms"].as_f64().context("no median")?;
    Ok(vec![median * 1e3])
}

fn bare(port: u16) -> anyhow::Result<Vec<f64>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut buffer = [0; SIZE];
    let mut times = Vec::with_capacity(COUNT);
    let mut due = Instant::now();
    for _ in 0..COUNT {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due += INTERVAL;
        let sent = Instant::now();
        socket.send(&[b'.'; SIZE])?;
        let size = socket.recv(&mut buffer).context("an answer was lost")?;
        times.push(sent.elapsed());
        ensure!(size == SIZE, "a wrong answer");
    }
    times.sort_unstable();
    Ok(vec![times[COUNT / 2].as_secs_f64() * 1e6])
}
