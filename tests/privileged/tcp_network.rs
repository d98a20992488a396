//! A network that loses, delays, reorders and doubles the answers to a TCP ping.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::namespace::in_namespace;
use crate::harness::{DEADLINE, check_changes, check_findings, netkit, program, spawn};

const COUNT: u64 = 20;
/// The port of seed 0. The others follow.
const FIRST_PORT: u16 = 20_000;
/// After this many milliseconds a probe is lost. The kernel repeats a SYN after 1000.
const LIMIT: u64 = 900;

/// A segment that asks to connect to us, or ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    port: u16,
    from: u16,
    sequence: u32,
    is_syn: bool,
}

/// The SYN or FIN in an IPv4 packet.
fn segment(packet: &[u8]) -> Option<Segment> {
    let tcp = packet.get(usize::from(packet.first()? & 15) * 4..)?;
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    // RFC 9293, section 3.1: SYN without ACK, or FIN.
    let flags = tcp.get(13)?;
    let (is_syn, is_fin) = (flags & 0x12 == 0x02, flags & 1 == 1);
    let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
    (is_syn || is_fin).then_some(Segment {
        port: port(2)?,
        from: port(0)?,
        sequence,
        is_syn,
    })
}

/// The segment that establishes the connection, on 127.0.0.1.
fn answer(syn: Segment) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(syn.port.to_be_bytes());
    tcp.extend(syn.from.to_be_bytes());
    tcp.extend(1_u32.to_be_bytes());
    tcp.extend(syn.sequence.wrapping_add(1).to_be_bytes());
    // 20 bytes of header, SYN and ACK, a window, checksum and urgent pointer.
    tcp.extend([0x50, 0x12, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = [127, 0, 0, 1, 127, 0, 0, 1, 0, 6, 0, 20];
    let words = [&pseudo[..], &tcp].concat();
    let words = words
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    tcp[16..18].copy_from_slice(&(!sum).to_be_bytes());
    tcp
}

/// What the network does with the probes to one port.
struct Line {
    random: u64,
    /// The ports that SYNs came from, in order: the kernel may repeat one.
    seen: Vec<u16>,
    /// The probes that were answered in time, in the order of their answers.
    arrivals: Vec<u64>,
    /// Answers that are due. The client has closed the connections of those before: a client that wakes
    /// late cannot tell in which order two were established.
    due: VecDeque<(u64, Segment)>,
    open: Option<u16>,
}

impl Line {
    fn answer_next(&mut self, raw: &Socket) {
        let target: SocketAddr = "127.0.0.1:0".parse().unwrap();
        if self.open.is_none()
            && let Some((number, syn)) = self.due.pop_front()
        {
            for _ in 0..=self.random(4) / 3 {
                raw.send_to(&answer(syn), &target.into()).unwrap();
            }
            self.open = Some(syn.from);
            self.arrivals.push(number);
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }
}

/// Plays the other end of the connections to `ports`, until each has had all its probes.
fn relay(raw: &Socket, ports: &[u16]) -> HashMap<u16, Vec<u64>> {
    let mut lines: HashMap<u16, Line> = ports
        .iter()
        .map(|&port| {
            let line = Line {
                random: u64::from(port).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                seen: Vec::new(),
                arrivals: Vec::new(),
                due: VecDeque::new(),
                open: None,
            };
            (port, line)
        })
        .collect();
    let mut queue: BinaryHeap<Reverse<(Instant, u64, Segment)>> = BinaryHeap::new();
    let mut buffer = [0; 2048];
    let is_done =
        |line: &Line| line.seen.len() as u64 == COUNT && line.due.is_empty() && line.open.is_none();
    while !queue.is_empty() || !lines.values().all(is_done) {
        let next = queue.peek().map(|Reverse((due, ..))| *due);
        let wait = next.map_or(DEADLINE, |due| {
            due.saturating_duration_since(Instant::now())
        });
        if !wait.is_zero() {
            receive(raw, &mut buffer, wait, &mut lines, &mut queue);
        } else if let Some(Reverse((_, number, syn))) = queue.pop() {
            let line = lines.get_mut(&syn.port).unwrap();
            line.due.push_back((number, syn));
            line.answer_next(raw);
        }
    }
    lines
        .into_iter()
        .map(|(port, line)| (port, line.arrivals))
        .collect()
}

/// Waits for a segment. Decides what becomes of a SYN.
fn receive(
    raw: &Socket,
    buffer: &mut [u8],
    wait: Duration,
    lines: &mut HashMap<u16, Line>,
    queue: &mut BinaryHeap<Reverse<(Instant, u64, Segment)>>,
) {
    raw.set_read_timeout(Some(wait)).unwrap();
    let Ok(size) = (&*raw).read(buffer) else {
        assert!(wait < DEADLINE, "probes should come");
        return;
    };
    let Some(segment) = segment(&buffer[..size]) else {
        return;
    };
    let Some(line) = lines.get_mut(&segment.port) else {
        return;
    };
    if !segment.is_syn {
        line.open.take_if(|open| *open == segment.from);
        line.answer_next(raw);
        return;
    }
    if line.seen.contains(&segment.from) {
        return;
    }
    line.seen.push(segment.from);
    let number = line.seen.len() as u64;
    if line.random(3) > 0 {
        let due = Instant::now() + Duration::from_millis(line.random(60));
        queue.push(Reverse((due, number, segment)));
    }
}

#[test]
#[ignore = "needs root"]
fn losses_outages_and_reordering_are_those_of_the_network() {
    in_namespace(|| {
        // The kernel has no listener, and would refuse.
        let rules = "table inet quiet {\nchain output {\ntype filter hook output priority 0\n\
                     tcp sport 20000-20099 tcp flags & rst == rst drop\n}\n}\n";
        program("nft", ["-f", "-"]).stdin(rules).run();
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        raw.bind(&local.into()).unwrap();
        raw.set_recv_buffer_size(4 << 20).unwrap();
        for batch in 0..4 {
            let first = FIRST_PORT + batch * 25;
            let ports: Vec<u16> = (first..first + 25).collect();
            let raw = raw.try_clone().unwrap();
            let own = ports.clone();
            let network = spawn(move || relay(&raw, &own));
            let clients: Vec<_> = ports
                .iter()
                .map(|port| {
                    let target = format!("127.0.0.1:{port}");
                    let (count, limit) = (COUNT.to_string(), format!("{LIMIT}ms"));
                    let words = ["tcp-client", "-c", &count, "-i", "0.005", "-W", &limit];
                    let client = netkit(words).args(["--json", &target]);
                    (*port, client.any_stdout().any_code().start())
                })
                .collect();
            let arrivals = network.join().unwrap();
            for (port, client) in clients {
                let stdout = client.finish().stdout;
                // Shown if the test fails.
                println!("seed {}", port - FIRST_PORT);
                check(&stdout, &arrivals[&port]);
            }
        }
    });
}

#[track_caller]
fn check(stdout: &[u8], arrivals: &[u64]) {
    let lines = std::str::from_utf8(stdout).unwrap().lines();
    let events: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let replies = events.iter().filter(|event| event["event"] == "reply");
    let replies: Vec<u64> = replies
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(replies, arrivals);
    let summary = events.last().unwrap();
    for (key, value) in [
        ("transmitted", COUNT),
        ("received", arrivals.len() as u64),
        ("lost", COUNT - arrivals.len() as u64),
        ("duplicates", 0),
        ("errors", 0),
    ] {
        assert_eq!(summary[key], value, "{key}: {summary}");
    }
    check_findings(summary, COUNT, arrivals);
    check_changes(&events);
}
