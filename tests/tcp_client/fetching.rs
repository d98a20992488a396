//! `--get`: the client sends one request and prints the response as received.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use super::receiver;
use crate::harness::{Peer, netkit, peer, random_bytes, temporary_folder};

/// A server that must receive exactly this request, and no end of input, before its answer.
fn server(request: impl Fn(&str) -> String + Send + 'static) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let request = request(&listener.local_addr().unwrap().to_string());
    Peer::of_listener(listener, move |mut connection| {
        connection.expect(request);
        connection.expect_nothing_for(Duration::from_millis(100));
        connection.send("HTTP/1.1 404 Not Found\r\n\r\nno");
    })
}

#[test]
fn get_sends_a_request_and_prints_the_answer_as_received() {
    let server =
        server(|host| format!("GET /a?b=c HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    netkit(["tcp-client", "--get", "/a?b=c", server.address()])
        .stdin("not this")
        .stdout("HTTP/1.1 404 Not Found\r\n\r\nno")
        .run();
}

#[test]
fn get_without_a_path_requests_the_root() {
    let root = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = "HTTP/1.1 404 Not Found\r\n\r\nno";
    let first = server(root);
    netkit(["tcp-client", "--get", first.address()])
        .stdout(answer)
        .run();
    let last = server(root);
    netkit(["tcp-client", last.address(), "--get"])
        .stdout(answer)
        .run();
    let apart = server(root);
    netkit(["tcp-client", "--get", "127.0.0.1", apart.port()])
        .stdout(answer)
        .run();
}

#[test]
fn get_names_the_host_as_it_was_typed() {
    let server = server(|address| {
        let port = address.rsplit(':').next().unwrap();
        format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n")
    });
    netkit(["tcp-client", "-4", "localhost", server.port(), "--get"])
        .any_stdout()
        .run();
}

#[test]
fn a_port_other_than_80_is_sent_no_request() {
    let peer = receiver("");
    netkit(["tcp-client", peer.address()]).run();
}

#[test]
fn a_page_of_fifty_megabytes_arrives_unchanged() {
    let folder = temporary_folder();
    let page = random_bytes(50_000_000);
    fs::write(folder.path().join("page"), &page).unwrap();
    let arguments = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"];
    let Some(server) = peer("python3", arguments) else {
        return;
    };
    let mut server = server.current_dir(folder.path()).start();
    let line = server.receive_line("Serving HTTP on 127.0.0.1 port {N} {*}");
    let port = line.split(' ').nth(5).unwrap();
    let client = netkit(["tcp-client", "--get", "/page", "127.0.0.1", port])
        .any_stdout()
        .run();
    let head = client.stdout.windows(4).position(|end| end == b"\r\n\r\n");
    let (head, body) = client.stdout.split_at(head.unwrap() + 4);
    assert!(head.starts_with(b"HTTP/1.0 200 OK\r\n"));
    assert!(body == page);
}

#[test]
fn a_url_is_fetched() {
    for (path, requested) in [("/a?b=c", "/a?b=c"), ("", "/"), ("?b", "/?b")] {
        let server = server(move |host| {
            format!("GET {requested} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        });
        netkit(["tcp-client", &format!("http://{}{path}", server.address())])
            .stdout("HTTP/1.1 404 Not Found\r\n\r\nno")
            .run();
        server.finish();
    }
}

#[test]
fn a_url_that_cannot_be_fetched_is_refused() {
    for (words, message) in [
        (
            &["http://u@a/"] as &[_],
            "'http://u@a/' names a user, whom netkit does not log in",
        ),
        (
            &["http://a/#b"],
            "'http://a/#b' has a fragment ('#'), which no server is sent",
        ),
        (
            &["ftp://a/"],
            "'ftp://a/' is a URL that is not http:// or https://; write HOST:PORT",
        ),
        (
            &["http://a/", "--get=/"],
            "'http://a/' names the path already: leave --get out",
        ),
        (&["http://a/", "-C"], "-C does nothing with --get"),
    ] {
        netkit(["tcp-client"].iter().chain(words))
            .stderr(format!("netkit: {message}; see 'netkit tcp-client -h'\n"))
            .code(2)
            .run();
    }
}
