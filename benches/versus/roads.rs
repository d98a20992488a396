//! Rows of other roads than TCP: Unix sockets, and a proxy.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::bulk::{Data, both_ways, command, take_from_stream};
use crate::contest::{GIGABYTES, Round, Row};
use crate::programs::{Program, find, netkit};

/// Far more than a step takes on a machine that does nothing else.
const LIMIT: Duration = Duration::from_secs(20);

pub fn forward() -> anyhow::Result<Row> {
    let mut row = Row::new(
        "2 × 256 MiB, Unix ⇄ forwarder ⇄ Unix, both ways at once",
        vec![GIGABYTES],
    );
    let data = Data::new(256 << 20)?;
    let netkit = netkit().get_program().to_owned();
    add_forwarder(&mut row, &data, "netkit", move |near, far| {
        let (near, far) = (near.display(), far.display());
        let words = format!("-q tcp-server --bind unix:{near} --forward unix:{far}");
        command(&netkit, &words)
    });
    match find("socat") {
        None => row.is_missing("socat"),
        Some(file) => add_forwarder(&mut row, &data, "socat", move |near, far| {
            let (near, far) = (near.display(), far.display());
            command(
                &file,
                &format!("UNIX-LISTEN:{near},fork UNIX-CONNECT:{far}"),
            )
        }),
    }
    Ok(row)
}

/// A path for a socket. The file is removed before and after.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("netkit-bench-{}.{name}", std::process::id());
        let place = Self(std::env::temp_dir().join(name));
        place.remove();
        place
    }

    fn remove(&self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
    }
}

fn add_forwarder(
    row: &mut Row,
    data: &Arc<Data>,
    name: &str,
    make: impl Fn(&Path, &Path) -> Command + 'static,
) {
    let data = Arc::clone(data);
    row.add(name, move |round| {
        let (near, far) = (Place::new("near"), Place::new("far"));
        let backend = UnixListener::bind(&far.0)?;
        let mut command = make(&near.0, &far.0);
        let _forwarder = Program::start(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
        let near = connect(&near.0)?;
        let start = Instant::now();
        let (far, _) = backend.accept()?;
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(LIMIT))?;
            stream.set_write_timeout(Some(LIMIT))?;
        }
        both_ways(&data, round, &near, &far)?;
        let rate = data.rate(start);
        Ok(rate.into_iter().map(|rate| 2.0 * rate).collect())
    });
}

/// Connects as soon as something listens there.
fn connect(path: &Path) -> anyhow::Result<UnixStream> {
    let end = Instant::now() + LIMIT;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) && Instant::now() < end =>
            {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error).context("it does not listen"),
        }
    }
}

/// The bench is the proxy, and reads what comes through it: the row shows what CONNECT costs netkit.
pub fn proxy() -> anyhow::Result<Row> {
    let mut row = Row::new(
        "1 GiB, file → proxy (CONNECT), and to the same place without",
        vec![GIGABYTES],
    )
    .with_rounds(9);
    let data = Data::new(1 << 30)?;
    for (name, words) in [
        ("netkit", "--proxy http://PLACE target.invalid:9"),
        ("netkit, straight", "PLACE"),
    ] {
        let data = Arc::clone(&data);
        let is_proxied = words.contains("--proxy");
        row.add(name, move |round| send(&data, round, words, is_proxied));
    }
    Ok(row)
}

fn send(data: &Arc<Data>, round: Round, words: &str, is_proxied: bool) -> anyhow::Result<Vec<f64>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let words = words.replace("PLACE", &listener.local_addr()?.to_string());
    let mut command = netkit();
    command.arg("tcp-client").args(words.split(' '));
    let start = Instant::now();
    let client = Program::start(command.stdin(data.open()?).stdout(Stdio::null()))?;
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(LIMIT))?;
    if is_proxied {
        establish(&stream)?;
    }
    take_from_stream(data, round, &stream)?;
    drop(stream);
    client.succeed()?;
    Ok(data.rate(start))
}

/// Reads a request, and says that the target is reached.
fn establish(mut stream: &TcpStream) -> anyhow::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    if !request.starts_with(b"CONNECT target.invalid:9 HTTP/1.1\r\n") {
        bail!("another request: {}", request.escape_ascii());
    }
    Ok(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?)
}
