//! Servers of the `hello` protocol under load: connections, requests, and many open connections.
//!
//! A peer that cannot speak the protocol echoes. The load is one thread with epoll(7).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Socket, Type};

use crate::bare;
use crate::contest::{Better, Measure, Round, Row};
use crate::programs::{Program, Table, find, free_port, netkit};

/// How long a run lasts that counts events per second.
const TIME: Duration = Duration::from_millis(300);

/// A client that waits this long for a byte on loopback has lost it, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time for a server to finish the connections that have ended, so that their ends are not
/// measured.
const SETTLING: Duration = Duration::from_millis(50);

const GREETING: &[u8] = b"Welcome!";
const MESSAGE: &[u8; 16] = b"sixteen bytes ..";

/// The tutorial's server with a thread for each connection, without its pause before each answer.
const PYTHON: &str = "
import socket, sys, threading
def tcplink(sock, addr):
    print('Accept new connection from %s:%s...' % addr)
    sock.send(b'Welcome!')
    while True:
        data = sock.recv(1024)
        if not data or data.decode('utf-8') == 'exit':
            break
        sock.send(('Hello, %s!' % data.decode('utf-8')).encode('utf-8'))
    sock.close()
    print('Connection from %s:%s closed.' % addr)
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1])))
s.listen(1024)
while True:
    sock, addr = s.accept()
    threading.Thread(target=tcplink, args=(sock, addr)).start()
";

/// The program that socat, tcpserver and ncat run for each connection.
const GREET: &str = "#!/bin/sh\nprintf Welcome!\nread line\n";

/// What a server says, and what ends a connection.
#[derive(Clone, Copy)]
struct Protocol {
    greets: bool,
    /// The server answers X with `Hello, X!`; otherwise with X.
    hello: bool,
    exit: &'static [u8],
}

impl Protocol {
    const HELLO: Self = Self {
        greets: true,
        hello: true,
        exit: b"exit",
    };
    const GREET: Self = Self {
        hello: false,
        exit: b"exit\n",
        ..Self::HELLO
    };
    const ECHO: Self = Self {
        greets: false,
        hello: false,
        exit: b"",
    };

    fn answer(self) -> Vec<u8> {
        if self.hello {
            [b"Hello, ", &MESSAGE[..], b"!"].concat()
        } else {
            MESSAGE.to_vec()
        }
    }
}

/// A running server; it is killed when this is dropped.
pub struct Server {
    pub program: Program,
    address: SocketAddr,
    protocol: Protocol,
}

impl Server {
    fn start(make: impl FnOnce(u16) -> Command, protocol: Protocol) -> anyhow::Result<Self> {
        let port = free_port(Table::Tcp)?;
        let program = Program::serve(&mut make(port), port, Table::Tcp)?;
        Ok(Self {
            program,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            protocol,
        })
    }

    /// Adds to `error` that the server has ended, if it has.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match self.program.has_ended(Duration::ZERO) {
            Ok(true) => error.context("the server has ended"),
            _ => error,
        }
    }

    /// Connects from 127.0.1.`source`: the ports of a single address would run out.
    fn connect(&self, source: u8) -> anyhow::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 1, source), 0));
        socket.bind(&source.into())?;
        socket.connect(&self.address.into())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn greeted(&self, source: u8) -> anyhow::Result<TcpStream> {
        let mut stream = self.connect(source)?;
        if self.protocol.greets {
            let mut greeting = [0; GREETING.len()];
            stream.read_exact(&mut greeting).context("no greeting")?;
            ensure!(greeting == GREETING, "a wrong greeting");
        }
        Ok(stream)
    }
}

pub type Start = Box<dyn Fn() -> anyhow::Result<Server>>;

/// The servers that speak the protocol: netkit, the bare server, those of `VERSUS_SERVER`, and the
/// tutorial's.
pub fn speakers(row: &mut Row) -> Vec<(String, Start)> {
    let server = |log: &'static [&'static str]| -> Start {
        Box::new(move || {
            let make = |port: u16| {
                let mut command = netkit();
                command.args(log).args(["tcp-server", "-m", "20000", "-p"]);
                command.arg(port.to_string());
                command
            };
            Server::start(make, Protocol::HELLO)
        })
    };
    let mut servers = vec![
        ("netkit -q".to_owned(), server(&["-q"])),
        ("netkit, logging".to_owned(), server(&[])),
        ("bare threads".to_owned(), Box::new(start_bare)),
    ];
    let others = std::env::var_os("VERSUS_SERVER").unwrap_or_default();
    for program in std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty()) {
        let name = program.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let start: Start = Box::new(move || {
            let make = |port: u16| {
                let mut command = Command::new(&program);
                command.arg(port.to_string());
                command
            };
            Server::start(make, Protocol::HELLO)
        });
        servers.push((name, start));
    }
    match find("python3") {
        None => row.is_missing("python3"),
        Some(python) => servers.push((
            "python3, threads".to_owned(),
            Box::new(move || {
                let make = |port: u16| {
                    let mut command = Command::new(&python);
                    command.args(["-c", PYTHON, &port.to_string()]);
                    command
                };
                Server::start(make, Protocol::HELLO)
            }),
        )),
    }
    servers
}

fn start_bare() -> anyhow::Result<Server> {
    let program = std::env::current_exe()?;
    let make = |port: u16| {
        let mut command = Command::new(program);
        command.args([bare::ARGUMENT, &port.to_string()]);
        command
    };
    Server::start(make, Protocol::HELLO)
}

/// The servers that run a program for each connection.
fn spawners(row: &mut Row, run: &str, protocol: Protocol) -> Vec<(String, Start)> {
    let mut servers: Vec<(String, Start)> = Vec::new();
    for name in ["socat", "tcpserver", "ncat"] {
        let Some(file) = find(name) else {
            row.is_missing(name);
            continue;
        };
        let run = run.to_owned();
        let start: Start = Box::new(move || {
            let make = |port: u16| {
                let mut command = Command::new(&file);
                let port = port.to_string();
                match name {
                    "socat" => command.args([
                        &format!(
                            "TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=1024,nodelay"
                        ),
                        &format!("EXEC:{run}"),
                    ]),
                    "tcpserver" => {
                        command.args(["-HR", "-l0", "-c1200", "-b1024", "127.0.0.1", &port, &run])
                    }
                    _ => command.args(["-l", "-k", "-m1200", "-e", &run, "127.0.0.1", &port]),
                };
                command
            };
            Server::start(make, protocol)
        });
        servers.push((name.to_owned(), start));
    }
    servers
}

/// Adds a contestant whose server starts in the first round and serves all rounds.
fn add(
    row: &mut Row,
    (name, start): (String, Start),
    mut work: impl FnMut(&Server) -> anyhow::Result<Vec<f64>> + 'static,
) {
    let mut server = None;
    row.add(name, move |round| {
        if server.is_none() {
            server = Some(start()?);
        }
        let server = server.as_ref().context("it did not start")?;
        let result = work(server).map_err(|error| server.explain(error));
        if round == Round::WarmUp {
            std::thread::sleep(SETTLING);
        }
        result
    });
}

pub fn connections() -> anyhow::Result<Row> {
    let mut row = Row::new(
        "connect, read the greeting, send exit, read to the end; 2 clients",
        vec![
            Measure {
                unit: "a second",
                better: Better::More,
            },
            Measure::less("ms, p50"),
            Measure::less("ms, p99"),
        ],
    );
    let script = std::env::temp_dir().join(format!("versus-greet-{}", std::process::id()));
    std::fs::write(&script, GREET)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let mut servers = speakers(&mut row);
    servers.extend(spawners(
        &mut row,
        &script.to_string_lossy(),
        Protocol::GREET,
    ));
    let script = Rc::new(Removed(script));
    for server in servers {
        let script = Rc::clone(&script);
        add(&mut row, server, move |server| {
            let _ = &script;
            connect_and_exit(server)
        });
    }
    Ok(row)
}

/// A file that is removed when this is dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn connect_and_exit(server: &Server) -> anyhow::Result<Vec<f64>> {
    const CLIENTS: u8 = 2;
    let end = Instant::now() + TIME;
    let client = |source| -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            let mut stream = server.greeted(source)?;
            stream.write_all(server.protocol.exit)?;
            let rest = stream.read(&mut [0; 64])?;
            ensure!(rest == 0, "more than the greeting");
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    };
    let results = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|source| scope.spawn(move || client(source)))
            .collect();
        let results = clients.into_iter().map(ScopedJoinHandle::join);
        results.collect::<Vec<_>>()
    });
    let mut times = Vec::new();
    for result in results {
        times.extend(result.map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    times.sort_by(f64::total_cmp);
    let rank = |percent: usize| times[times.len() * percent / 100];
    Ok(vec![
        f64::from(u32::try_from(times.len())?) / TIME.as_secs_f64(),
        rank(50),
        rank(99),
    ])
}

pub fn requests(connections: usize) -> anyhow::Result<Row> {
    let mut row = Row::new(
        format!("requests of 16 bytes and their answers, {connections} connections at once"),
        vec![Measure {
            unit: "a second",
            better: Better::More,
        }],
    );
    let mut servers = speakers(&mut row);
    // The scheduler learns from these requests that one client wakes many threads. Without them it moves
    // the threads of the first contestant to and fro between processors, in all rounds.
    let bare = start_bare()?;
    let mut load = Load::greeted(&bare, connections)?;
    load.rate()?;
    load.end()?;
    if connections < 1000 {
        servers.extend(spawners(&mut row, "/bin/cat", Protocol::ECHO));
    }
    for server in servers {
        // Connections to servers that run programs stay for all rounds: ncat takes 5 s to open 64.
        // Other servers get new ones each round, since the rate depends on each thread's processor.
        let mut kept = None;
        add(&mut row, server, move |server| {
            let mut load = match kept.take() {
                Some(load) => load,
                None => Load::greeted(server, connections)?,
            };
            let rate = load.rate()?;
            if server.protocol.hello {
                load.end()?;
            } else {
                kept = Some(load);
            }
            Ok(vec![rate])
        });
    }
    Ok(row.with_rounds(9))
}

/// How many of 10,000 connections the limit of descriptors allows. A connection takes one
/// descriptor here and one in the server, which inherits the limit.
fn most_connections() -> usize {
    const WANTED: usize = 10_000;
    /// Descriptors that are no connections, here or in the server.
    const OTHERS: usize = 64;
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    if limit >= WANTED + OTHERS {
        return WANTED;
    }
    let fit = limit.saturating_sub(OTHERS);
    println!(
        "the limit of {limit} descriptors (ulimit -Hn) allows {fit} connections, not {WANTED}"
    );
    fit
}

pub fn open() -> Row {
    let connections = most_connections();
    let mut row = Row::new(
        format!(
            "{connections} open connections to a new server, and once more when they have ended"
        ),
        vec![
            Measure::less("ms to open"),
            Measure::less("ms to answer"),
            Measure::less("KiB each"),
            Measure::less("ms once more"),
        ],
    );
    for (name, start) in speakers(&mut row) {
        if name.starts_with("python3") {
            // It takes ten seconds a round.
            continue;
        }
        row.add(name, move |_| {
            // A new server each round: one that has served before keeps memory, and threads for
            // seconds.
            let server = start()?;
            open_twice(&server, connections).map_err(|error| server.explain(error))
        });
    }
    row
}

fn open_twice(server: &Server, connections: usize) -> anyhow::Result<Vec<f64>> {
    let before = server.program.resident()?;
    let (opened, mut load) = open_all(server, connections)?;
    let start = Instant::now();
    load.ask_all()?;
    let answered = load.run(|| false)?;
    let all_answered = start.elapsed();
    ensure!(answered == connections, "{answered} answers");
    let resident = server.program.resident()? - before;
    load.end()?;
    std::thread::sleep(SETTLING);
    let (opened_again, load) = open_all(server, connections)?;
    load.end()?;
    Ok(vec![
        opened.as_secs_f64() * 1e3,
        all_answered.as_secs_f64() * 1e3,
        resident / f64::from(u32::try_from(connections)?),
        opened_again.as_secs_f64() * 1e3,
    ])
}

/// Opens `connections`, and the time until all were greeted.
fn open_all(server: &Server, connections: usize) -> anyhow::Result<(Duration, Load)> {
    let mut load = Load::new(server)?;
    let start = Instant::now();
    load.open(server, connections)?;
    Ok((start.elapsed(), load))
}

/// Many connections to one server, each with at most one request outstanding.
pub struct Load {
    epoll: OwnedFd,
    clients: Vec<Client>,
    protocol: Protocol,
    answer: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// How many bytes of the greeting or the answer have arrived.
    received: usize,
}

impl Load {
    pub fn new(server: &Server) -> anyhow::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clients: Vec::new(),
            protocol: server.protocol,
            answer: server.protocol.answer(),
        })
    }

    /// Requests a second.
    fn rate(&mut self) -> anyhow::Result<f64> {
        let start = Instant::now();
        self.ask_all()?;
        let answered = self.run(|| start.elapsed() < TIME)?;
        Ok(f64::from(u32::try_from(answered)?) / start.elapsed().as_secs_f64())
    }

    /// A load of `connections`, opened one after another.
    fn greeted(server: &Server, connections: usize) -> anyhow::Result<Self> {
        let mut load = Self::new(server)?;
        for source in 0..connections {
            load.add(server.greeted(u8::try_from(source % 100)?)?, 0)?;
        }
        Ok(load)
    }

    fn add(&mut self, stream: TcpStream, received: usize) -> anyhow::Result<()> {
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(self.clients.len() as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        self.clients.push(Client { stream, received });
        Ok(())
    }

    /// Opens connections and waits until all are greeted. At most 256 wait for their greeting at a
    /// time: more could overflow the server's backlog.
    pub fn open(&mut self, server: &Server, connections: usize) -> anyhow::Result<()> {
        const AT_ONCE: usize = 256;
        let mut events = Vec::with_capacity(AT_ONCE);
        let mut greeted = 0;
        while greeted < connections {
            while self.clients.len() < connections && self.clients.len() - greeted < AT_ONCE {
                let source = u8::try_from(self.clients.len() % 100)?;
                self.add(server.connect(source)?, 0)?;
            }
            self.wait(&mut events)?;
            for event in events.drain(..) {
                greeted += usize::from(self.receive(event.data.u64(), GREETING)?);
            }
        }
        Ok(())
    }

    pub fn ask_all(&self) -> anyhow::Result<()> {
        for client in &self.clients {
            (&client.stream).write_all(MESSAGE)?;
        }
        Ok(())
    }

    /// Counts the answers. While `go_on` is true, a connection that is answered asks again. Returns
    /// when no answer is outstanding.
    pub fn run(&mut self, go_on: impl Fn() -> bool) -> anyhow::Result<usize> {
        let answer = std::mem::take(&mut self.answer);
        let mut events = Vec::with_capacity(256);
        let mut asked = self.clients.len();
        let mut answered = 0;
        while answered < asked {
            self.wait(&mut events)?;
            let more = go_on();
            for event in events.drain(..) {
                let number = event.data.u64();
                if self.receive(number, &answer)? {
                    answered += 1;
                    if more {
                        asked += 1;
                        let client = &self.clients[usize::try_from(number)?];
                        (&client.stream).write_all(MESSAGE)?;
                    }
                }
            }
        }
        self.answer = answer;
        Ok(answered)
    }

    /// Asks every `interval`, each connection in turn. A connection whose answer is outstanding
    /// waits for it first. Spins between requests: a sleep would last longer than `interval`.
    pub fn pace(&mut self, interval: Duration, requests: usize) -> anyhow::Result<()> {
        let answer = std::mem::take(&mut self.answer);
        let mut events = Vec::with_capacity(256);
        let mut waits = vec![false; self.clients.len()];
        let (mut asked, mut answered) = (0, 0);
        let start = Instant::now();
        let mut due = start;
        while answered < requests {
            let now = Instant::now();
            let next = asked % waits.len();
            if asked < requests && now >= due && !waits[next] {
                (&self.clients[next].stream).write_all(MESSAGE)?;
                waits[next] = true;
                asked += 1;
                due += interval;
            }
            let held = now < due + PATIENCE;
            ensure!(held, "the answers do not keep up with the requests");
            epoll::wait(
                &self.epoll,
                spare_capacity(&mut events),
                Some(&Timespec::default()),
            )?;
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64())?;
                if self.receive(event.data.u64(), &answer)? {
                    waits[number] = false;
                    answered += 1;
                }
            }
        }
        self.answer = answer;
        Ok(())
    }

    fn wait(&self, events: &mut Vec<epoll::Event>) -> anyhow::Result<()> {
        let timeout = Timespec::try_from(PATIENCE)?;
        let count = epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout))?;
        ensure!(count > 0, "nothing came");
        Ok(())
    }

    /// Reads once from a connection. True when all of `awaited` has arrived.
    fn receive(&mut self, number: u64, awaited: &[u8]) -> anyhow::Result<bool> {
        let client = &mut self.clients[usize::try_from(number)?];
        let mut buffer = [0; 64];
        let count = client.stream.read(&mut buffer)?;
        ensure!(count > 0, "the server closed a connection");
        let rest = &awaited[client.received..];
        ensure!(rest.starts_with(&buffer[..count]), "wrong bytes");
        client.received = if count == rest.len() {
            0
        } else {
            client.received + count
        };
        Ok(client.received == 0)
    }

    /// Ends all connections and waits for the server to end them too.
    pub fn end(self) -> anyhow::Result<()> {
        for client in &self.clients {
            client.stream.set_nonblocking(false)?;
            (&client.stream).write_all(self.protocol.exit)?;
            client.stream.shutdown(std::net::Shutdown::Write)?;
        }
        for client in &self.clients {
            ensure!(
                (&client.stream).read(&mut [0; 64])? == 0,
                "more than the answers"
            );
        }
        Ok(())
    }
}
