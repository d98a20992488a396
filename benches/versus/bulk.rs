//! Rows that move much data between files, pipes and connections.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::fs::sendfile;
use rustix::net::sockopt::set_tcp_congestion;
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{SpliceFlags, splice};

use crate::contest::{GIGABYTES, Round, Row};
use crate::programs::{Program, Table, find, free_port, netkit};

/// The largest read of bytes that are compared.
const BLOCK: usize = 64 << 10;

/// A file of pseudo-random numbers: no two blocks of it are equal.
pub struct Data {
    path: PathBuf,
    size: u64,
}

impl Data {
    pub fn new(size: u64) -> anyhow::Result<Arc<Self>> {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("versus-{}-{size}", std::process::id()));
        let data = Self { path, size };
        let mut file = File::create(&data.path)?;
        let mut block = vec![0; BLOCK];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..size / BLOCK as u64 {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all(&block)?;
        }
        Ok(Arc::new(data))
    }

    pub fn open(&self) -> anyhow::Result<File> {
        Ok(File::open(&self.path)?)
    }

    /// Sends `size` bytes with sendfile(2): the file, again and again.
    pub fn send(&self, size: u64, to: impl AsFd) -> io::Result<()> {
        let file = File::open(&self.path)?;
        let mut sent = 0;
        while sent < size {
            let mut place = sent % self.size;
            let most = (size - sent).min(1 << 20);
            let most = usize::try_from(most).map_err(io::Error::other)?;
            sent += sendfile(&to, &file, Some(&mut place), most)? as u64;
        }
        Ok(())
    }

    pub fn rate(&self, start: Instant) -> Vec<f64> {
        let bytes = Duration::from_nanos(self.size).as_secs_f64();
        vec![bytes / start.elapsed().as_secs_f64()]
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Reads `size` bytes and compares them with `data`. The warm-up round compares all bytes, other
/// rounds 4 KiB of every MiB. A sample also shows bytes that are lost, doubled or out of order
/// before it, since they move all that follow. `skip` discards the other bytes without copying
/// them.
fn take(
    data: &Data,
    size: u64,
    round: Round,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    mut skip: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    const SAMPLE: usize = 4 << 10;
    const EVERY: u64 = 1 << 20;
    let file = File::open(&data.path)?;
    let mut buffers = [vec![0; BLOCK], vec![0; BLOCK]];
    let [received, sent] = &mut buffers;
    let block = match round {
        Round::WarmUp => BLOCK,
        Round::Counts => SAMPLE,
    };
    let mut taken = 0;
    let mut sampled = 0;
    while taken < size {
        let left = size - taken;
        let count = if round == Round::WarmUp || taken >= sampled {
            sampled = taken + EVERY;
            let place = taken % data.size;
            let most = left.min(data.size - place).min(block as u64);
            let most = usize::try_from(most).map_err(io::Error::other)?;
            let count = read(&mut received[..most])?;
            file.read_exact_at(&mut sent[..count], place)?;
            if received[..count] != sent[..count] {
                let message = format!("other bytes arrived after {taken}");
                return Err(io::Error::other(message));
            }
            count
        } else {
            let most = left.min(sampled - taken);
            skip(usize::try_from(most).map_err(io::Error::other)?)?
        };
        if count == 0 {
            return Err(io::Error::other(format!("{taken} bytes arrived")));
        }
        taken += count as u64;
    }
    Ok(())
}

/// `take` from a pipe; splice(2) discards.
pub fn take_from_pipe(data: &Data, size: u64, round: Round, pipe: impl AsFd) -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    let read = |buffer: &mut [u8]| Ok(rustix::io::read(&pipe, buffer)?);
    let skip = |most| Ok(splice(&pipe, None, &null, None, most, SpliceFlags::MOVE)?);
    take(data, size, round, read, skip)
}

/// `take` from a connection; of TCP `MSG_TRUNC` discards (tcp(7)).
pub fn take_from_stream(data: &Data, round: Round, stream: impl AsFd) -> io::Result<()> {
    let mut unused = vec![0; 256 << 10];
    let read = |buffer: &mut [u8]| Ok(recv(&stream, buffer, RecvFlags::empty())?.1);
    let skip = |most: usize| {
        let most = most.min(unused.len());
        Ok(recv(&stream, &mut unused[..most], RecvFlags::TRUNC)?.1)
    };
    take(data, data.size, round, read, skip)?;
    match recv(&stream, &mut [0; 1], RecvFlags::empty())?.1 {
        0 => Ok(()),
        _ => Err(io::Error::other("too many bytes arrived")),
    }
}

/// Sends `data` from each end to the other, all at once.
pub fn both_ways<S: AsFd + Sync>(
    data: &Data,
    round: Round,
    near: &S,
    far: &S,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for stream in [near, far] {
            threads.push(scope.spawn(move || {
                data.send(data.size, stream)?;
                Ok(rustix::net::shutdown(stream, rustix::net::Shutdown::Write)?)
            }));
            threads.push(scope.spawn(move || take_from_stream(data, round, stream)));
        }
        threads.into_iter().try_for_each(join)
    })
}

/// Fails unless the source has ended.
pub fn at_end(mut source: impl Read) -> io::Result<()> {
    match source.read(&mut [0; 1])? {
        0 => Ok(()),
        _ => Err(io::Error::other("too many bytes arrived")),
    }
}

/// A tool that moves bytes: the command that receives on a port, and the command that sends to it.
pub struct Mover {
    pub name: &'static str,
    pub receive: Box<dyn Fn(u16) -> Command>,
    pub send: Box<dyn Fn(u16) -> Command>,
}

pub fn command(program: impl AsRef<std::ffi::OsStr>, words: &str) -> Command {
    let mut command = Command::new(program);
    command.args(words.split_whitespace()).stderr(Stdio::null());
    command
}

fn movers(row: &mut Row) -> Vec<Mover> {
    /// The arguments that receive on a port, and those that send to it.
    type Words = fn(u16) -> [String; 2];
    let mut movers = vec![Mover::netkit()];
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
    pub fn netkit() -> Self {
        let program = netkit().get_program().to_owned();
        let sender = program.clone();
        Self {
            name: "netkit",
            receive: Box::new(move |port| {
                let words = format!("tcp-server --service stdio --recv-only -p {port}");
                command(&program, &words)
            }),
            send: Box::new(move |port| command(&sender, &format!("tcp-client 127.0.0.1 {port}"))),
        }
    }

    pub fn listen(&self, stdout: Stdio) -> anyhow::Result<(Program, u16)> {
        let port = free_port(Table::Tcp)?;
        let mut command = (self.receive)(port);
        let server = Program::start(command.stdin(Stdio::null()).stdout(stdout))?;
        server.wait_for(port, Table::Tcp)?;
        Ok((server, port))
    }

    pub fn send(&self, port: u16, stdin: Stdio) -> anyhow::Result<Program> {
        let mut command = (self.send)(port);
        Program::start(command.stdin(stdin).stdout(Stdio::null()))
    }
}

pub fn join<T>(thread: ScopedJoinHandle<'_, io::Result<T>>) -> anyhow::Result<T> {
    let result = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
    Ok(result?)
}

/// Reads all that a program prints and compares it with `data`.
fn receive(data: &Data, round: Round, mut pipe: ChildStdout) -> io::Result<()> {
    take_from_pipe(data, data.size, round, &pipe)?;
    at_end(&mut pipe)
}

/// Adds the time that `mover` takes from a file to `/dev/null`. Its first round compares the bytes.
pub fn add_to_null(row: &mut Row, data: &Arc<Data>, mover: Mover) {
    let data = Arc::clone(data);
    row.add(mover.name, move |round| {
        let check = round == Round::WarmUp;
        let stdout = if check { Stdio::piped() } else { Stdio::null() };
        let (mut server, port) = mover.listen(stdout)?;
        let start = Instant::now();
        let sender = mover.send(port, data.open()?.into())?;
        if let Some(pipe) = server.child.stdout.take() {
            receive(&data, round, pipe)?;
        }
        server.succeed()?;
        sender.succeed()?;
        Ok(data.rate(start))
    });
}

pub fn file_to_null() -> anyhow::Result<Row> {
    let mut row = Row::new("1 GiB, file → TCP → /dev/null", vec![GIGABYTES]);
    let data = Data::new(1 << 30)?;
    for mover in movers(&mut row) {
        add_to_null(&mut row, &data, mover);
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
        let data = Arc::clone(&data);
        row.add(mover.name, move |_| {
            let copy = Data {
                path: data.path.with_extension("copy"),
                size: 0,
            };
            let (server, port) = mover.listen(File::create(&copy.path)?.into())?;
            let start = Instant::now();
            let sender = mover.send(port, data.open()?.into())?;
            server.succeed()?;
            sender.succeed()?;
            let rate = data.rate(start);
            let mut copy = copy.open()?;
            let read = |buffer: &mut [u8]| copy.read(buffer);
            take(&data, data.size, Round::WarmUp, read, |_| Ok(0))?;
            at_end(&copy)?;
            Ok(rate)
        });
    }
    Ok(row)
}

pub fn pipe_to_pipe() -> anyhow::Result<Row> {
    let mut row = Row::new("512 MiB, pipe → TCP → pipe", vec![GIGABYTES]);
    let data = Data::new(512 << 20)?;
    for mover in movers(&mut row) {
        let data = Arc::clone(&data);
        row.add(mover.name, move |round| {
            let (mut server, port) = mover.listen(Stdio::piped())?;
            let start = Instant::now();
            let mut sender = mover.send(port, Stdio::piped())?;
            let input = sender.child.stdin.take().context("no input")?;
            let output = server.child.stdout.take().context("no output")?;
            thread::scope(|scope| {
                let feeder = scope.spawn(|| data.send(data.size, input));
                receive(&data, round, output)?;
                join(feeder)
            })?;
            server.succeed()?;
            sender.succeed()?;
            Ok(data.rate(start))
        });
    }
    Ok(row.with_rounds(9))
}

pub fn tcp_to_pipe() -> anyhow::Result<Row> {
    let mut row = Row::new(
        "512 MiB, TCP → pipe, the receiver alone (the sender is in the kernel, and not paced)",
        vec![GIGABYTES],
    )
    .with_rounds(9);
    let data = Data::new(512 << 20)?;
    for mover in movers(&mut row) {
        let data = Arc::clone(&data);
        row.add(mover.name, move |round| {
            let (mut server, port) = mover.listen(Stdio::piped())?;
            let output = server.child.stdout.take().context("no output")?;
            let start = Instant::now();
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            // BBR would pace the sender, which is the bench itself.
            set_tcp_congestion(&stream, "reno")?;
            thread::scope(|scope| {
                let feeder = scope.spawn(|| {
                    data.send(data.size, &stream)?;
                    stream.shutdown(Shutdown::Write)?;
                    // The receiver sends nothing; nc and netkit close after the sender's end.
                    at_end(&stream)
                });
                receive(&data, round, output)?;
                join(feeder)
            })?;
            server.succeed()?;
            Ok(data.rate(start))
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
    data: &Arc<Data>,
    name: &str,
    make: impl Fn(u16, SocketAddr) -> Command + 'static,
) {
    let data = Arc::clone(data);
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
        both_ways(&data, round, &near, &far)?;
        let rate = data.rate(start);
        Ok(rate.into_iter().map(|rate| 2.0 * rate).collect())
    });
}
