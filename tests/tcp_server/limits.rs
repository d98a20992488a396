//! How many connections a server serves, and for how long.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Connection, Server, tcp_server};

/// A client that is connected and has been welcomed.
fn greeted(server: &Server) -> Connection {
    let mut client = server.connect();
    client.expect("Welcome!");
    client
}

/// Waits until the server has logged the end of a connection.
#[track_caller]
fn wait_for_end(server: &Server, client: &str) {
    server.wait_for_line(&format!("Connection from {client} closed{{*}}"));
}

#[test]
fn accept_timeout_ends_a_server_that_nobody_has_connected_to() {
    for service in [&[][..], &["-l"], &["--forward", ":9"], &["-b", "any"]] {
        tcp_server(["--accept-timeout", "0.1"])
            .args(service)
            .code(4)
            .listen()
            .wait_for_line("netkit: nobody connected within 100ms (--accept-timeout)");
    }
}

#[test]
fn accept_timeout_passes_once_somebody_has_connected() {
    let server = tcp_server(["--accept-timeout", "2"]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    client.hold_for(Duration::from_millis(2500));
    server.connect().expect("Welcome!");
    drop(client);
    server.stop();
}

#[test]
fn once_serves_one_and_refuses_the_next() {
    let mut server = tcp_server(["-1"]).code(0).listen();
    let address: SocketAddr = server.address().parse().unwrap();
    let mut client = greeted(&server);
    // Until the listening socket is closed, a connection may enter its queue, but is not served.
    while let Ok(stream) = TcpStream::connect(address) {
        let mut early = Connection::new(stream);
        early.expect_reset();
    }
    client.send("Michael");
    client.expect("Hello, Michael!");
    assert!(!server.has_ended());
    client.send("exit");
    client.expect_eof();
    drop(client);
    server.finish();
}

#[test]
fn once_closes_all_addresses_with_the_first_connection() {
    for first in 0..2 {
        let server = tcp_server(["--once", "-b", "127.0.0.1", "-b", "127.0.0.2"]).listen();
        let addresses = server.addresses(2);
        let mut client = Connection::to(addresses[first]);
        client.expect("Welcome!");
        for address in addresses {
            let error = TcpStream::connect(address).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        client.send("exit");
        client.expect_eof();
        server.finish();
    }
}

#[test]
fn once_ends_after_a_reset_by_the_client_too() {
    let server = tcp_server(["--once"]).code(1).listen();
    greeted(&server).reset();
    server.wait_for_line(
        "netkit: could not finish with {*}: connection reset by peer; 8 bytes were sent",
    );
    server.finish();
}

#[test]
fn connections_over_the_limit_are_reset_logged_once_and_counted() {
    let server = tcp_server(["-m", "2"]).listen();
    let first = greeted(&server);
    let _second = greeted(&server);
    for _ in 0..3 {
        server.expect_rejection();
    }
    let name = first.local();
    drop(first);
    wait_for_end(&server, &name);
    let _third = greeted(&server);
    for _ in 0..3 {
        server.expect_rejection();
    }
    server.signal(Signal::TERM);
    server.wait_for_line("netkit: refused 6 connections in all: too many were open");
    let log = server.log();
    assert_eq!(log.matches("2 connections are open").count(), 1, "{log}");
}

#[test]
fn a_client_may_reconnect_as_soon_as_its_connection_has_ended() {
    let server = tcp_server(["-m", "1", "--max-connections-per-ip", "1"]).listen();
    for _ in 0..200 {
        let mut client = greeted(&server);
        client.send("exit");
        client.expect_eof();
    }
}

#[test]
fn every_kind_of_end_frees_the_place_of_a_connection() {
    let server = tcp_server(["-m", "1", "--idle-timeout", "2s", "--max-message", "8"]);
    let server = server.listen();
    let ends: [fn(Connection); 6] = [
        |mut client| client.send("exit"),
        |mut client| client.shutdown(),
        drop,
        Connection::reset,
        |mut client| client.send("much too long\n"),
        |mut client| client.expect_reset(),
    ];
    for end in ends {
        let client = greeted(&server);
        let name = client.local();
        end(client);
        wait_for_end(&server, &name);
    }
    greeted(&server);
}

#[test]
fn idle_timeout_closes_only_a_silent_connection() {
    let server = tcp_server(["--idle-timeout", "2s"]).listen();
    let mut busy = greeted(&server);
    let mut silent = greeted(&server);
    let end = format!(
        "Connection from {} closed: no data for 2s (--idle-timeout).",
        silent.local()
    );
    // Five times as long as it should take.
    for _ in 0..100 {
        if server.log().contains(&end) {
            break;
        }
        busy.hold_for(Duration::from_millis(100));
        busy.send("x");
        busy.expect("Hello, x!");
    }
    silent.expect_reset();
    server.wait_for_line(&end);
    busy.send("exit");
    busy.expect_eof();
    server.wait_for_line(&format!("Connection from {} closed.", busy.local()));
}

#[test]
fn idle_timeout_closes_a_connection_whose_client_reads_nothing() {
    for service in ["echo", "chargen"] {
        let server = tcp_server(["--service", service, "--idle-timeout", "1s"]).listen();
        let mut client = server.connect();
        if service == "echo" {
            client.send_until_stuck();
        }
        server.wait_for_line(&format!(
            "Connection from {} closed: no data for 1s (--idle-timeout).",
            client.local()
        ));
    }
}

#[test]
fn max_session_closes_a_busy_connection() {
    for service in ["hello", "echo", "discard", "chargen"] {
        let server = tcp_server(["--service", service, "--max-session", "500ms"]).listen();
        let start = Instant::now();
        let mut client = server.connect();
        if service == "chargen" {
            client.drain();
        } else {
            client.send_until_left();
        }
        let age = start.elapsed();
        assert!(age >= Duration::from_millis(500), "{service}: {age:?}");
        server.wait_for_line(&format!(
            "Connection from {} closed: open for 500ms (--max-session).",
            client.local()
        ));
    }
}

#[test]
fn max_session_includes_the_delay() {
    let server = tcp_server(["--delay", "1h", "--max-session", "2s"]).listen();
    let mut client = greeted(&server);
    client.send("Michael");
    client.expect_reset();
    server.wait_for_line("Connection from {*} closed: open for 2s (--max-session).");
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_without_descriptors_waits_quietly_and_recovers() {
    const FULL: &str = "netkit: could not accept a connection: too many open files; \
                        new ones have to wait";
    let server = tcp_server([]).ulimit("-n 24").listen();
    let mut clients: Vec<Connection> = (0..40).map(|_| server.connect()).collect();
    server.wait_for_line(FULL);
    // A server that spins shows only after a while.
    let before = server.cpu_time();
    clients[39].expect_nothing_for(Duration::from_secs(2));
    let used = server.cpu_time().saturating_sub(before);
    assert!(used < Duration::from_millis(60), "{used:?}");
    assert_eq!(server.log().matches("could not accept").count(), 1);
    for mut client in clients {
        client.expect("Welcome!");
        client.send("Michael");
        client.expect("Hello, Michael!");
    }
    greeted(&server);
}

#[test]
fn a_server_raises_a_low_soft_limit_of_descriptors() {
    let server = tcp_server(["-m", "20000"]).ulimit("-Sn 64").listen();
    let clients: Vec<Connection> = (0..100).map(|_| greeted(&server)).collect();
    assert_eq!(clients.len(), 100);
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_without_memory_goes_on_and_closes_only_those_it_cannot_serve() {
    const CLIENTS: usize = 300;
    let sent = vec![b'x'; 60_000];
    for service in [["--framing", "line"], ["--service", "echo"]] {
        let server = tcp_server(service);
        let server = server.ulimit("-v 49152").listen();
        let mut clients: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| TcpStream::connect(server.address()).unwrap())
            .collect();
        for client in &mut clients {
            client.set_nonblocking(true).unwrap();
            // The server may have reset it already, or may not have taken it yet.
            let _ = client.write(&sent);
            client.set_nonblocking(false).unwrap();
        }
        server.wait_for_line("netkit: could not start a thread: {*}; new connections have to wait");
        let mut answered = 0;
        for mut client in clients {
            let mut answer = Vec::new();
            let ended = client
                .write_all(b"\n")
                .and_then(|()| client.shutdown(Shutdown::Write))
                .and_then(|()| client.read_to_end(&mut answer));
            if ended.is_ok() {
                answered += 1;
                assert!(answer.len() > sent.len(), "{} bytes came", answer.len());
            }
        }
        assert!(answered > 0);
        let mut late = server.connect();
        late.send("hi\n");
        late.shutdown();
        assert!(late.receive_all().ends_with(b"\n"));
        let log = server.stop().stderr;
        let closed = log.matches("closed: cannot allocate memory.").count();
        assert_eq!(closed + answered, CLIENTS);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_without_room_for_a_thread_waits_with_accepting_and_serves_all() {
    let server = tcp_server([]).ulimit("-v 32768").listen();
    let clients: Vec<Connection> = (0..200).map(|_| server.connect()).collect();
    server.wait_for_line(
        "netkit: could not start a thread: cannot allocate memory; new connections have to wait",
    );
    for mut client in clients {
        client.expect("Welcome!");
        client.send("Michael");
        client.expect("Hello, Michael!");
    }
    greeted(&server);
    assert_eq!(server.log().matches("could not start").count(), 1);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn in_a_small_address_space_no_thread_takes_the_room_of_another() {
    // glibc maps 64 MiB for the first allocation of a thread.
    const ROOM: &str = "-v 81920";
    for _ in 0..8 {
        let server = tcp_server(["--service", "chat"]).ulimit(ROOM).listen();
        let mut clients: Vec<Connection> = (0..40).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send("hi\n");
        }
        for client in &mut clients {
            client.shutdown();
            client.drain();
        }
        let log = server.stop().stderr;
        assert!(!log.contains("could not"), "{log}");
    }
    // Programs see nothing of it.
    let server = tcp_server(["--sh-exec", "env | grep -c TUNABLES"]).ulimit(ROOM);
    server.listen().connect().expect("0\n");
    let own = tcp_server(["--sh-exec", "env | grep TUNABLES"]).env("GLIBC_TUNABLES", "");
    let own = own.ulimit(ROOM).listen();
    own.connect().expect("GLIBC_TUNABLES=\n");
}
