//! Unix sockets: clients, servers, checks and forwards, and the file of a server.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Folder, Peer, Process, Program, event, netkit, netkit_path, peer, random_bytes,
    spawn, temporary_folder,
};

/// A socket in a folder of its own.
struct Place {
    path: PathBuf,
    #[expect(dead_code, reason = "removed when dropped")]
    folder: Folder,
}

impl Place {
    fn new() -> Self {
        let folder = temporary_folder();
        let path = folder.path().join("a socket");
        Self { path, folder }
    }

    /// As it is typed.
    fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// Plays a script with the first connection.
    fn listen(&self, play: impl FnOnce(UnixStream) + Send + 'static) -> JoinHandle<()> {
        let listener = UnixListener::bind(&self.path).unwrap();
        spawn(move || play(patient(listener.accept().unwrap().0)))
    }

    fn connect(&self) -> UnixStream {
        patient(UnixStream::connect(&self.path).unwrap())
    }
}

/// No call blocks for longer than a test may take.
fn patient(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn read_all(stream: &mut UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A server of `arguments` that listens.
fn serve<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Process {
    let server = server(arguments).start();
    server.wait_for_line("Waiting for connection...");
    server
}

fn server<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Program {
    netkit(["tcp-server"].into_iter().chain(arguments)).any_stderr()
}

#[test]
fn a_client_sends_its_input_and_prints_the_answer_to_its_end() {
    let place = Place::new();
    let peer = place.listen(|mut stream| {
        assert_eq!(read_all(&mut stream), "ping");
        stream.write_all(b"pong").unwrap();
    });
    netkit(["tcp-client", &place.address()])
        .stdin("ping")
        .stdout("pong")
        .run();
    peer.join().unwrap();
}

#[test]
fn a_peer_that_ends_first_is_left_if_the_input_has_delivered_nothing() {
    let place = Place::new();
    let peer = place.listen(|mut stream| stream.write_all(b"bye").unwrap());
    let mut client = netkit(["tcp-client", &place.address()])
        .stdin_open()
        .start();
    client.receive("bye");
    client.finish();
    peer.join().unwrap();
}

#[test]
fn a_peer_that_only_half_closes_gets_the_rest_of_the_input() {
    let place = Place::new();
    let peer = place.listen(|mut stream| {
        let mut first = [0; 5];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut stream), "last");
    });
    let mut client = netkit(["tcp-client", &place.address()])
        .stdin_open()
        .start();
    client.send("first");
    client.receive("bye");
    client.send("last");
    client.close_input();
    client.finish();
    peer.join().unwrap();
}

#[test]
fn a_peer_that_has_gone_before_the_input_ended_is_exit_1_at_once() {
    let place = Place::new();
    let peer = place.listen(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"bye").unwrap();
    });
    let address = place.address();
    let client = netkit(["tcp-client", &address]).stdin_open();
    let client = client.stdout("bye").code(1).stderr(format!(
        "netkit: could not send everything to {address}: the peer has closed the connection; \
         5 bytes were sent\n"
    ));
    let client = client.start();
    client.send("first");
    client.finish();
    peer.join().unwrap();
}

/// It may wait for an end that it cannot see.
#[test]
fn a_peer_that_takes_no_more_and_falls_silent_is_left() {
    let place = Place::new();
    let (trigger, left) = event();
    let peer = place.listen(move |mut stream| {
        stream.shutdown(Shutdown::Read).unwrap();
        stream.write_all(b"no more").unwrap();
        left.wait();
    });
    let address = place.address();
    let mut client = netkit(["tcp-client", &address])
        .stdin_open()
        .stderr(format!(
            "netkit: could not send everything to {address}: the peer has closed the connection; \
             0 bytes were sent\n"
        ))
        .code(1)
        .start();
    client.receive("no more");
    client.send("x");
    client.finish();
    trigger.happen();
    peer.join().unwrap();
}

/// poll(2) does not report it.
#[test]
fn a_peer_that_takes_no_more_while_its_buffer_is_full_is_left() {
    let place = Place::new();
    let (trigger, left) = event();
    let peer = place.listen(move |stream| {
        // The buffer is full once no more arrives.
        let (mut arrived, mut times) = (0, 0);
        while times < 1000 {
            let waiting = rustix::io::ioctl_fionread(&stream).unwrap();
            times = if waiting > 0 && waiting == arrived {
                times + 1
            } else {
                0
            };
            arrived = waiting;
            std::thread::yield_now();
        }
        stream.shutdown(Shutdown::Read).unwrap();
        left.wait();
    });
    let address = place.address();
    netkit(["tcp-client", &address])
        .stdin(vec![b'x'; 4 << 20])
        .stderr(format!(
            "netkit: could not send everything to {address}: the peer has closed the connection; \
             {{N}} bytes were sent\n"
        ))
        .code(1)
        .run();
    trigger.happen();
    peer.join().unwrap();
}

#[test]
fn bytes_that_nobody_reads_are_exit_1() {
    let place = Place::new();
    let peer = place.listen(drop);
    netkit(["tcp-client", &place.address()])
        .stdin(vec![b'x'; 4 << 20])
        .any_stderr()
        .code(1)
        .run();
    peer.join().unwrap();
}

#[test]
fn what_cannot_be_connected_to_has_the_exit_code_of_its_cause() {
    let place = Place::new();
    let address = place.address();
    let fails = |code, cause: &str| {
        netkit(["tcp-client", &address])
            .code(code)
            .stderr(format!("netkit: could not connect to {address}: {cause}\n"))
            .run();
    };
    fails(2, "no such file or directory");
    drop(UnixListener::bind(&place.path).unwrap());
    fails(1, "connection refused");
    fs::remove_file(&place.path).unwrap();
    let _datagrams = UnixDatagram::bind(&place.path).unwrap();
    fails(2, "protocol wrong type for socket");
}

#[test]
fn a_client_waits_for_room_in_a_full_backlog() {
    let place = Place::new();
    let listener =
        socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&socket2::SockAddr::unix(&place.path).unwrap())
        .unwrap();
    listener.listen(0).unwrap();
    let _first = place.connect();
    let address = place.address();
    netkit(["tcp-client", "-w", "50ms", &address])
        .code(4)
        .stderr(format!(
            "netkit: could not connect to {address}: no answer within 50ms\n"
        ))
        .run();
    let client = netkit(["tcp-client", &address]).stdout("hi").start();
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(listener));
    drop(listener.accept().unwrap());
    listener.accept().unwrap().0.write_all(b"hi").unwrap();
    client.finish();
}

#[test]
fn a_socket_that_does_not_exist_yet_is_tried_again() {
    let place = Place::new();
    let address = place.address();
    let wait = [
        "tcp-client",
        "-v",
        "-z",
        "--wait",
        "20s",
        "--retry-delay",
        "1ms",
    ];
    let client = netkit(wait.into_iter().chain([&address[..]]));
    let client = client
        .any_stderr()
        .stdout(format!("{address} open, {{*}} ms\n"));
    let client = client.start();
    client.wait_for_line("{*}attempt 1: no such file or directory; next in 1ms");
    let _listener = UnixListener::bind(&place.path).unwrap();
    client.finish();
    let retry = ["--retry", "1", "--retry-delay", "1ms", "-v"];
    netkit(["tcp-client", "unix:/nowhere/x"].into_iter().chain(retry))
        .code(2)
        .stderr(
            "{*}attempt 1 of 2: no such file or directory; next in 1ms\n{*}could not connect{*}\n",
        )
        .run();
}

#[test]
fn check_tells_which_sockets_are_open() {
    let place = Place::new();
    let _listener = UnixListener::bind(&place.path).unwrap();
    let address = place.address();
    netkit(["tcp-client", "-z", &address])
        .stdout(format!("{address} open, {{*}} ms\n"))
        .run();
    let missing = format!("{address}x");
    netkit(["tcp-client", "-z", "--json", &address, &missing])
        .stdout(format!(
            "{{*}}\n{{*}}\"event\":\"open\"{{*}}\"target\":\"{address}\",\"address\":null,\"port\":null{{*}}\n{{*}}\"failed\"{{*}}\n{{*}}\n"
        ))
        .any_stderr()
        .code(2)
        .run();
}

#[test]
fn options_of_ip_are_refused_by_name() {
    for option in [
        "-4",
        "-n",
        "--ttl=3",
        "--mss=999",
        "--keepalive=5",
        "--source=127.0.0.1",
        "--source-port=9",
    ] {
        let name = option.split('=').next().unwrap();
        netkit(["tcp-client", "unix:/x", option])
            .code(2)
            .stderr(format!(
                "netkit: {name} does nothing with a Unix socket; see 'netkit tcp-client -h'\n"
            ))
            .run();
    }
    for option in [
        "-6",
        "--dscp=ef",
        "--reuse-port",
        "--print-port",
        "--allow=1.1.1.1",
        "--deny=1.1.1.1",
        "--max-connections-per-ip=2",
    ] {
        let name = option.split('=').next().unwrap();
        netkit(["tcp-server", "unix:/x", option])
            .code(2)
            .stderr(format!(
                "netkit: {name} does nothing with a Unix socket; see 'netkit tcp-server -h'\n"
            ))
            .run();
    }
}

#[test]
fn names_that_cannot_be_are_refused() {
    let long = format!("unix:{}", "x".repeat(108));
    for (arguments, message) in [
        (
            &["tcp-client", "unix:"][..],
            "'unix:' names no socket; write unix:PATH",
        ),
        (
            &["tcp-client", &long],
            &format!("'{long}' is too long: it has 108 bytes, and a Unix socket takes 107"),
        ),
        (
            &["tcp-client", "unix:/x", "80"],
            "'80' is too much: the address is unix:/x already",
        ),
        (
            &["tcp-server", "unix:/x", "-p", "80"],
            "unix:/x is the address: leave --port and --bind out",
        ),
        (
            &["tcp-server", "-b", "unix:/x", "-p", "80"],
            "port 80 does nothing with a Unix socket alone; --bind ADDRESS adds one of TCP",
        ),
        (
            &["tcp-server", "-p", "80", "--unix-mode", "0600"],
            "--unix-mode needs --bind unix:PATH",
        ),
        (
            &["tcp-server", "unix:@x", "--unix-mode", "0600"],
            "--unix-mode needs --bind unix:PATH",
        ),
        (
            &["tcp-server", "-b", "::1", "-p", "80", "--unix-mode", "0600"],
            "--unix-mode needs --bind unix:PATH",
        ),
        (
            &["udp-server", "unix:/x"],
            "'unix:/x' is a Unix socket, which is for tcp-client and tcp-server",
        ),
        (
            &["udp-client", "unix:/x", "hi"],
            "'unix:/x' is a Unix socket, which is for tcp-client and tcp-server",
        ),
        (
            &["tcp-client", "-c", "1", "unix:/x", "-4"],
            "-4 does nothing with a Unix socket",
        ),
    ] {
        let page = arguments[0];
        netkit(arguments)
            .code(2)
            .stderr(format!("netkit: {message}; see 'netkit {page} -h'\n"))
            .run();
    }
}

#[test]
fn a_server_names_the_process_that_connects_and_its_user() {
    let place = Place::new();
    let mut server = server([&place.address()[..]]).stderr("").start();
    server.expect_line(&format!("Listening on {}", place.address()));
    server.expect_line("Waiting for connection...");
    let (pid, uid) = (std::process::id(), rustix::process::getuid().as_raw());
    let mut client = place.connect();
    let name = format!("unix (pid {pid}, uid {uid})");
    server.expect_line(&format!("Accept new connection from {name}..."));
    client.write_all(b"Bob").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), "Welcome!Hello, Bob!");
    server.expect_line(&format!("Connection from {name} closed."));
    server.signal(Signal::TERM);
    server.finish();
    assert!(!place.path.exists());
}

#[test]
fn a_program_finds_both_ends_in_its_environment() {
    let place = Place::new();
    let script = "echo $NETKIT_PROTO,$NETKIT_REMOTE_PID,$NCAT_REMOTE_UID,$NETKIT_LOCAL_ADDR,$NETKIT_REMOTE_PORT$NETKIT_LOCAL_PORT";
    let _server = serve([&place.address()[..], "--sh-exec", script]);
    let (pid, uid) = (std::process::id(), rustix::process::getuid().as_raw());
    let expected = format!("UNIX,{pid},{uid},{},\n", place.address());
    assert_eq!(read_all(&mut place.connect()), expected);
}

#[test]
fn the_file_has_its_mode_whatever_the_umask_is() {
    for (umask, options, mode) in [
        ("0", &[][..], 0o600),
        ("077", &["--unix-mode", "0666"][..], 0o666),
    ] {
        let place = Place::new();
        let address = place.address();
        let arguments = ["tcp-server", &address]
            .into_iter()
            .chain(options.iter().copied());
        let server = netkit(arguments).through(&format!("umask {umask}; exec \"$0\" \"$@\""));
        let server = server.any_stderr().start();
        server.wait_for_line("Waiting for connection...");
        let file = fs::metadata(&place.path).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, mode);
    }
}

#[test]
fn the_mode_is_set_before_anybody_can_connect() {
    let place = Place::new();
    let calls = "trace=bind,chmod,fchmodat,listen";
    let Some(trace) = peer("strace", ["-f", "-e", calls]) else {
        return;
    };
    let address = place.address();
    let trace = trace.arg(netkit_path());
    let trace = trace.args(["tcp-server", &address, "--accept-timeout", "1ms"]);
    let log = trace.run().stderr;
    let at = |call: &str| log.find(call).unwrap_or_else(|| panic!("{call} in {log}"));
    assert!(at("bind(") < at("chmod"));
    assert!(at("chmod") < at("listen("));
}

#[test]
fn a_stale_file_is_taken_over() {
    let place = Place::new();
    drop(UnixListener::bind(&place.path).unwrap());
    let _server = serve([&place.address()[..]]);
    place.connect().read_exact(&mut [0; 8]).unwrap();
}

#[test]
fn nothing_but_a_stale_socket_is_ever_touched() {
    let place = Place::new();
    let address = place.address();
    let id = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let refused = |cause: &str| {
        let before = id(&place.path);
        netkit(["tcp-server", &address])
            .code(2)
            .stderr(format!("netkit: could not listen on {address}: {cause}\n"))
            .run();
        assert_eq!(id(&place.path), before);
    };
    let no_socket = "there is a file of this name, which is no socket";
    fs::write(&place.path, "text").unwrap();
    refused(no_socket);
    fs::remove_file(&place.path).unwrap();
    fs::create_dir(&place.path).unwrap();
    refused(no_socket);
    fs::remove_dir(&place.path).unwrap();
    symlink("nowhere", &place.path).unwrap();
    refused(no_socket);
    fs::remove_file(&place.path).unwrap();
    let stale = place.path.with_extension("stale");
    drop(UnixListener::bind(&stale).unwrap());
    symlink(&stale, &place.path).unwrap();
    refused(no_socket);
    fs::remove_file(&place.path).unwrap();
    let in_use = "address already in use (another program listens there)";
    let datagrams = UnixDatagram::bind(&place.path).unwrap();
    refused(in_use);
    drop(datagrams);
    fs::remove_file(&place.path).unwrap();
    let _server = serve([&address[..]]);
    refused(in_use);
    place.connect().read_exact(&mut [0; 8]).unwrap();
}

#[test]
fn an_address_that_is_given_twice_is_listened_on_once() {
    let place = Place::new();
    let address = place.address();
    let other = address.replace("/a socket", "/./a socket");
    let name = format!("unix:@{}", place.path.display());
    for (first, second) in [(&address, &address), (&address, &other), (&name, &name)] {
        let server = serve(["-b", first, "-b", second]);
        server.signal(Signal::TERM);
        let log = server.finish().stderr;
        assert_eq!(log.matches("Listening on").count(), 1, "{log}");
    }
}

#[test]
fn of_several_servers_that_start_at_once_exactly_one_listens() {
    let place = Place::new();
    drop(UnixListener::bind(&place.path).unwrap());
    let address = place.address();
    let servers: Vec<_> = (0..8)
        .map(|_| {
            let server = server([&address[..], "--accept-timeout", "4s"]).any_code();
            server.start()
        })
        .collect();
    let logs: Vec<_> = servers
        .into_iter()
        .map(|server| server.finish().stderr)
        .collect();
    let listening = logs.iter().filter(|log| log.contains("Listening on"));
    assert_eq!(listening.count(), 1, "{logs:?}");
}

#[test]
fn the_file_goes_with_the_server() {
    for (options, signal) in [
        (&[][..], Some(Signal::INT)),
        (&[], Some(Signal::TERM)),
        (&["--once"], None),
        (&["-l"], None),
    ] {
        let place = Place::new();
        let address = place.address();
        let server = serve([&address[..]].into_iter().chain(options.iter().copied()));
        assert!(fs::metadata(&place.path).unwrap().file_type().is_socket());
        if let Some(signal) = signal {
            server.signal(signal);
        } else {
            let mut client = place.connect();
            client.shutdown(Shutdown::Write).unwrap();
            read_all(&mut client);
        }
        drop(server.finish());
        assert!(!place.path.exists(), "{options:?} {signal:?}");
    }
}

#[test]
fn a_file_that_has_taken_its_place_is_left_alone() {
    let place = Place::new();
    let server = serve([&place.address()[..]]);
    fs::remove_file(&place.path).unwrap();
    let _other = UnixListener::bind(&place.path).unwrap();
    server.signal(Signal::TERM);
    server.finish();
    assert!(place.path.exists());
}

#[test]
fn one_server_listens_on_tcp_and_on_unix_sockets() {
    let place = Place::new();
    let address = place.address();
    let server = server(["-p", "0", "-b", "127.0.0.1", "-b", &address]).listen();
    server.wait_for_line(&format!("Listening on {address}"));
    server.connect().expect("Welcome!");
    place.connect().read_exact(&mut [0; 8]).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_has_no_file_and_a_warning() {
    let name = format!("unix:@netkit-test-{}", std::process::id());
    let server = serve([&name[..]]);
    server.wait_for_line(&format!(
        "netkit: every user of this machine can connect: {name} has no file mode"
    ));
    netkit(["tcp-client", &name])
        .stdin("Bob")
        .stdout("Welcome!Hello, Bob!")
        .run();
}

#[test]
fn a_forward_leads_from_either_kind_to_either_kind() {
    let place = Place::new();
    let target = Place::new();
    let bytes = random_bytes(3 << 20);
    let expected = bytes.clone();
    let (from, to) = (place.address(), target.address());
    let _server = serve([&from[..], "--forward", &to]);
    let peer = target.listen(move |mut stream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == expected);
        stream.write_all(b"got it").unwrap();
    });
    netkit(["tcp-client", &from])
        .stdin(bytes)
        .stdout("got it")
        .run();
    peer.join().unwrap();

    let tcp = Peer::listen(|mut connection| {
        connection.expect("over TCP");
        connection.expect_eof();
        connection.send("yes");
    });
    let second = Place::new();
    let address = second.address();
    let server = server([
        "-p",
        "0",
        "-b",
        "127.0.0.1",
        "-b",
        &address,
        "--forward",
        tcp.address(),
    ]);
    let server = server.listen();
    server.wait_for_line(&format!("Listening on {address}"));
    netkit(["tcp-client", &address])
        .stdin("over TCP")
        .stdout("yes")
        .run();
}

#[test]
fn a_server_does_not_forward_to_itself() {
    let place = Place::new();
    let address = place.address();
    let server = serve([&address[..], "--forward", &address]);
    let mut client = place.connect();
    assert_eq!(read_all(&mut client), "");
    server.wait_for_line(
        "netkit: Connection from {*} closed: could not connect to {*}: this server listens there.",
    );
}

#[test]
fn a_client_that_sends_and_closes_at_once_loses_nothing_behind_a_forward() {
    let place = Place::new();
    let target = Peer::listen(|mut connection| {
        let received = connection.receive_all();
        assert_eq!(received.len(), 100_000);
    });
    let _server = serve([&place.address()[..], "--forward", target.address()]);
    let mut client = place.connect();
    client.write_all(&vec![b'x'; 100_000]).unwrap();
    drop(client);
    target.finish();
}

#[test]
fn a_page_is_fetched_from_this_machine_by_name() {
    let place = Place::new();
    let peer = place.listen(|mut stream| {
        let expected = b"GET /info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut request = vec![0; expected.len()];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(request, expected);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    });
    netkit(["tcp-client", "--get", "/info", &place.address()])
        .stdout("HTTP/1.1 200 OK\r\n\r\n")
        .run();
    peer.join().unwrap();
}

#[test]
fn limits_hold_on_a_unix_socket() {
    let place = Place::new();
    let server = serve([&place.address()[..], "-m", "1", "--idle-timeout", "2s"]);
    let mut first = place.connect();
    first.read_exact(&mut [0; 8]).unwrap();
    let mut second = place.connect();
    let refused = second.read(&mut [0; 8]);
    assert!(matches!(refused, Ok(0)) || refused.unwrap_err().kind() == ErrorKind::ConnectionReset);
    server.wait_for_line("netkit: refused unix ({*}): 1 connection is open (--max-connections 1)");
    server.wait_for_line("Connection from {*} closed: no data for 2s (--idle-timeout).");
    assert_eq!(read_all(&mut first), "");
}

#[test]
fn nc_socat_and_curl_talk_to_it() {
    let place = Place::new();
    let _server = serve([&place.address()[..]]);
    let path = place.path.to_str().unwrap();
    let socat = format!("UNIX-CONNECT:{path}");
    let clients: [(&str, &[&str]); 3] = [
        ("nc", &["-N", "-U", path]),
        ("ncat", &["-U", path]),
        ("socat", &["-", &socat]),
    ];
    for (name, arguments) in clients {
        if let Some(client) = peer(name, arguments.iter().copied()) {
            client.stdin("Bob\n").stdout("Welcome!Hello, Bob!\n").run();
        }
    }
    let page = Place::new();
    let answer = "printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello'";
    let _pages = serve([&page.address()[..], "--sh-exec", answer]);
    let path = page.path.to_str().unwrap();
    if let Some(curl) = peer("curl", ["-s", "--unix-socket", path, "http://localhost/"]) {
        curl.stdout("hello").code(0).run();
    }
}

#[test]
fn it_talks_to_nc_and_socat() {
    for (name, arguments, answer) in [
        ("socat", "UNIX-LISTEN:PATH PIPE", "ping"),
        ("nc", "-l -U PATH", ""),
    ] {
        let folder = temporary_folder();
        let path = folder.path().join("socket");
        let arguments = arguments.replace("PATH", path.to_str().unwrap());
        let Some(server) = peer(name, arguments.split(' ')) else {
            continue;
        };
        let server = server.stdin("").start();
        let retry = ["--retry", "1000", "--retry-delay", "10ms"];
        let address = format!("unix:{}", path.display());
        netkit(["tcp-client", &address].into_iter().chain(retry))
            .stdin("ping")
            .stdout(answer)
            .run();
        server.finish();
    }
}
