//! Much data in one piece, between files, pipes and connections.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{SpliceFlags, splice};

use crate::contest::{GIGABYTES, Round, Row};
use crate::programs::{Program, Table, find, free_port, netkit};

const BLOCK: usize = 256 << 10;

/// A file of numbers that look like chance, and what it sums up to.
struct Data {
    path: PathBuf,
    size: u64,
    sum: u64,
}

impl Data {
    fn new(size: u64) -> anyhow::Result<Rc<Self>> {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("versus-{}-{size}", std::process::id()));
        let mut data = Self { path, size, sum: 0 };
        let mut file = File::create(&data.path)?;
        let mut sum = Sum::default();
        let mut block = vec![0; BLOCK];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..size / BLOCK as u64 {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            sum.add(&block);
            file.write_all(&block)?;
        }
        data.sum = sum.value;
        Ok(Rc::new(data))
    }

    fn open(&self) -> anyhow::Result<File> {
        Ok(File::open(&self.path)?)
    }

    fn check(&self, received: &Received) -> anyhow::Result<()> {
        ensure!(
            received.size == self.size,
            "{} bytes arrived",
            received.size
        );
        let right = received.sum.is_none_or(|sum| sum == self.sum);
        ensure!(right, "other bytes arrived");
        Ok(())
    }

    fn rate(&self, start: Instant) -> Vec<f64> {
        let bytes = Duration::from_nanos(self.size).as_secs_f64();
        vec![bytes / start.elapsed().as_secs_f64()]
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A sum of bytes that depends on their order.
#[derive(Default)]
struct Sum {
    value: u64,
}

impl Sum {
    /// All pieces but the last have a multiple of eight bytes.
    fn add(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.value =
                (self.value.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9);
        }
    }
}

/// What came at the far end.
struct Received {
    size: u64,
    /// Only where it was looked at: that takes time.
    sum: Option<u64>,
}

fn read_and_sum(mut source: impl Read) -> io::Result<Received> {
    let mut sum = Sum::default();
    let mut size = 0;
    let mut buffer = vec![0; BLOCK];
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match source.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        sum.add(&buffer[..filled]);
        size += filled as u64;
        if filled < BLOCK {
            let sum = Some(sum.value);
            return Ok(Received { size, sum });
        }
    }
}

/// Empties a pipe without reading it, so that it is the other end that is measured.
fn drain_pipe(pipe: impl AsFd) -> io::Result<Received> {
    let null = File::options().write(true).open("/dev/null")?;
    let mut size = 0;
    loop {
        match splice(&pipe, None, &null, None, 1 << 20, SpliceFlags::MOVE)? {
            0 => return Ok(Received { size, sum: None }),
            count => size += count as u64,
        }
    }
}

/// Empties a connection without copying what it holds (`MSG_TRUNC`, tcp(7)).
fn drain_stream(stream: &TcpStream) -> io::Result<Received> {
    let mut buffer = vec![0; BLOCK];
    let mut size = 0;
    loop {
        match recv(stream, &mut buffer, RecvFlags::TRUNC)?.1 {
            0 => return Ok(Received { size, sum: None }),
            count => size += count as u64,
        }
    }
}

fn send_file(file: &File, to: impl AsFd) -> io::Result<()> {
    while rustix::fs::sendfile(&to, file, None, 1 << 20)? > 0 {}
    Ok(())
}

/// Two commands that move bytes: what it sends with, and what it receives with on a port.
struct Mover {
    name: &'static str,
    receive: Box<dyn Fn(u16) -> Command>,
    send: Box<dyn Fn(u16) -> Command>,
}

fn command(program: impl AsRef<std::ffi::OsStr>, words: &str) -> Command {
    let mut command = Command::new(program);
    command.args(words.split_whitespace()).stderr(Stdio::null());
    command
}

fn movers(row: &mut Row) -> Vec<Mover> {
    /// To receive on a port, and to send to it.
    type Words = fn(u16) -> [String; 2];
    let program = netkit().get_program().to_owned();
    let sender = program.clone();
    let mut movers = vec![Mover {
        name: "netkit",
        receive: Box::new(move |port| {
            command(
                &program,
                &format!("tcp-server --service stdio --recv-only -p {port}"),
            )
        }),
        send: Box::new(move |port| command(&sender, &format!("tcp-client 127.0.0.1 {port}"))),
    }];
    let peers: [(&str, Words); 3] = [
        ("nc", |port| {
            [
                format!("-d -l 127.0.0.1 {port}"),
                format!("-N 127.0.0.1 {port}"),
            ]
        }),
        ("ncat", |port| {
            [
                format!("-l --recv-only 127.0.0.1 {port}"),
                format!("--send-only 127.0.0.1 {port}"),
            ]
        }),
        ("socat", |port| {
            [
                format!("-u TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr -"),
                format!("-u - TCP:127.0.0.1:{port}"),
            ]
        }),
    ];
    for (name, words) in peers {
        match find(name) {
            Some(file) => {
                let other = file.clone();
                movers.push(Mover {
                    name,
                    receive: Box::new(move |port| command(&file, &words(port)[0])),
                    send: Box::new(move |port| command(&other, &words(port)[1])),
                });
            }
            None => row.is_missing(name),
        }
    }
    movers
}

impl Mover {
    fn listen(&self, stdout: Stdio) -> anyhow::Result<(Program, u16)> {
        let port = free_port(Table::Tcp)?;
        let mut command = (self.receive)(port);
        let server = Program::start(command.stdin(Stdio::null()).stdout(stdout))?;
        server.wait_for(port, Table::Tcp)?;
        Ok((server, port))
    }

    fn send(&self, port: u16, stdin: Stdio) -> anyhow::Result<Program> {
        let mut command = (self.send)(port);
        Program::start(command.stdin(stdin).stdout(Stdio::null()))
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, io::Result<T>>) -> anyhow::Result<T> {
    let result = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
    Ok(result?)
}

/// Receives what a program prints: looked at when warming up, else only counted.
fn receive(pipe: std::process::ChildStdout, round: Round) -> io::Result<Received> {
    match round {
        Round::WarmUp => read_and_sum(pipe),
        Round::Counts => drain_pipe(pipe),
    }
}

pub fn file_to_null() -> anyhow::Result<Row> {
    let mut row = Row::new("1 GiB, file → TCP → /dev/null", vec![GIGABYTES]);
    let data = Data::new(1 << 30)?;
    for mover in movers(&mut row) {
        let data = Rc::clone(&data);
        row.add(mover.name, move |round| {
            let check = round == Round::WarmUp;
            let stdout = if check { Stdio::piped() } else { Stdio::null() };
            let (mut server, port) = mover.listen(stdout)?;
            let start = Instant::now();
            let sender = mover.send(port, data.open()?.into())?;
            if let Some(pipe) = server.child.stdout.take() {
                data.check(&read_and_sum(pipe)?)?;
            }
            server.succeed()?;
            sender.succeed()?;
            Ok(data.rate(start))
        });
    }
    match find("iperf3") {
        None => row.is_missing("iperf3"),
        Some(file) => row.add("iperf3", move |_| {
            let port = free_port(Table::Tcp)?;
            let words = format!("-s -1 -B 127.0.0.1 -p {port}");
            let server = Program::serve(&mut command(&file, &words), port, Table::Tcp)?;
            let words = format!("-c 127.0.0.1 -p {port} -n {}", data.size);
            let start = Instant::now();
            Program::start(command(&file, &words).stdout(Stdio::null()))?.succeed()?;
            let rate = data.rate(start);
            server.finish()?;
            Ok(rate)
        }),
    }
    Ok(row)
}

pub fn file_to_file() -> anyhow::Result<Row> {
    let mut row = Row::new("256 MiB, file → TCP → file", vec![GIGABYTES]);
    let data = Data::new(256 << 20)?;
    for mover in movers(&mut row) {
        let data = Rc::clone(&data);
        row.add(mover.name, move |_| {
            let copy = Data {
                path: data.path.with_extension("copy"),
                size: 0,
                sum: 0,
            };
            let (server, port) = mover.listen(File::create(&copy.path)?.into())?;
            let start = Instant::now();
            let sender = mover.send(port, data.open()?.into())?;
            server.succeed()?;
            sender.succeed()?;
            let rate = data.rate(start);
            data.check(&read_and_sum(copy.open()?)?)?;
            Ok(rate)
        });
    }
    Ok(row)
}

pub fn pipe_to_pipe() -> anyhow::Result<Row> {
    let mut row = Row::new("512 MiB, pipe → TCP → pipe", vec![GIGABYTES]);
    let data = Data::new(512 << 20)?;
    for mover in movers(&mut row) {
        let data = Rc::clone(&data);
        row.add(mover.name, move |round| {
            let (mut server, port) = mover.listen(Stdio::piped())?;
            let start = Instant::now();
            let mut sender = mover.send(port, Stdio::piped())?;
            let input = sender.child.stdin.take().context("no input")?;
            let output = server.child.stdout.take().context("no output")?;
            let file = data.open()?;
            let received = thread::scope(|scope| {
                let feeder = scope.spawn(move || send_file(&file, input));
                let received = receive(output, round);
                join(feeder)?;
                anyhow::Ok(received?)
            })?;
            server.succeed()?;
            sender.succeed()?;
            let rate = data.rate(start);
            data.check(&received)?;
            Ok(rate)
        });
    }
    Ok(row)
}

pub fn tcp_to_pipe() -> anyhow::Result<Row> {
    let mut row = Row::new(
        "512 MiB, TCP → pipe, the receiver alone (the sender is in the kernel)",
        vec![GIGABYTES],
    );
    let data = Data::new(512 << 20)?;
    for mover in movers(&mut row) {
        let data = Rc::clone(&data);
        row.add(mover.name, move |round| {
            let (mut server, port) = mover.listen(Stdio::piped())?;
            let output = server.child.stdout.take().context("no output")?;
            let file = data.open()?;
            let start = Instant::now();
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            let received = thread::scope(|scope| {
                let feeder = scope.spawn(move || {
                    send_file(&file, &stream)?;
                    stream.shutdown(Shutdown::Write)?;
                    // nc has nothing to send, and netkit ends after it has said so.
                    (&stream).read(&mut [0; 1])
                });
                let received = receive(output, round);
                join(feeder)?;
                anyhow::Ok(received?)
            })?;
            server.succeed()?;
            let rate = data.rate(start);
            data.check(&received)?;
            Ok(rate)
        });
    }
    Ok(row)
}

pub fn forward() -> anyhow::Result<Row> {
    let mut row = Row::new(
        "2 × 256 MiB, TCP ⇄ forwarder ⇄ TCP, both ways at once",
        vec![GIGABYTES],
    );
    let data = Data::new(256 << 20)?;
    let netkit = netkit().get_program().to_owned();
    add_forwarder(&mut row, &data, "netkit", move |port, target| {
        let words = format!("-q tcp-server -p {port} --forward {target}");
        command(&netkit, &words)
    });
    match find("socat") {
        None => row.is_missing("socat"),
        Some(file) => add_forwarder(&mut row, &data, "socat", move |port, target| {
            let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork");
            command(&file, &format!("{listen} TCP:{target}"))
        }),
    }
    Ok(row)
}

fn add_forwarder(
    row: &mut Row,
    data: &Rc<Data>,
    name: &str,
    make: impl Fn(u16, SocketAddr) -> Command + 'static,
) {
    let data = Rc::clone(data);
    row.add(name, move |round| {
        let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = free_port(Table::Tcp)?;
        let mut command = make(port, backend.local_addr()?);
        let _forwarder = Program::serve(&mut command, port, Table::Tcp)?;
        let start = Instant::now();
        let near = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let (far, _) = backend.accept()?;
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        }
        let files = [data.open()?, data.open()?];
        thread::scope(|scope| {
            let mut senders = Vec::new();
            let mut receivers = Vec::new();
            for (stream, file) in [&near, &far].into_iter().zip(&files) {
                senders.push(scope.spawn(move || {
                    send_file(file, stream)?;
                    stream.shutdown(Shutdown::Write)
                }));
                receivers.push(scope.spawn(move || match round {
                    Round::WarmUp => read_and_sum(stream),
                    Round::Counts => drain_stream(stream),
                }));
            }
            for sender in senders {
                join(sender)?;
            }
            for server in receivers {
                data.check(&join(server)?)?;
            }
            anyhow::Ok(())
        })?;
        let rate = data.rate(start);
        Ok(rate.into_iter().map(|rate| 2.0 * rate).collect())
    });
}
