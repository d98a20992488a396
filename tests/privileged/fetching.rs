//! A TCP client fetches a page from port 80.

use std::time::Duration;

use crate::harness::namespace::in_namespace;
use crate::harness::{Peer, Terminal, netkit, peer, random_bytes, temporary_folder};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

/// A web server that must receive exactly `request`, and no end of input before its answer.
fn server(request: &'static str) -> Peer {
    Peer::listen_on("127.0.0.1:80", move |mut connection| {
        connection.expect(request);
        connection.expect_nothing_for(Duration::from_millis(100));
        connection.send("page");
    })
}

#[test]
#[ignore = "needs root"]
fn a_client_without_input_fetches_the_page_of_port_80() {
    in_namespace(|| {
        for redirection in ["</dev/null", "<&-", "< <(true)"] {
            let server = server(REQUEST);
            netkit(["tcp-client", "127.0.0.1:80"])
                .through(&format!("exec \"$0\" \"$@\" {redirection}"))
                .stdout("page")
                .run();
            server.finish();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_client_on_a_terminal_fetches_the_page_of_port_80() {
    in_namespace(|| {
        let _server = server(REQUEST);
        let mut terminal = Terminal::open();
        netkit(["tcp-client", "127.0.0.1:80"])
            .stdin_from(terminal.device())
            .stdout_to(terminal.device())
            .stderr("Fetching http://127.0.0.1/ (--interactive lets you type a request)\n")
            .run();
        terminal.expect("page");
        terminal.finish();
    });
}

#[test]
#[ignore = "needs root"]
fn interactive_sends_the_typed_request() {
    in_namespace(|| {
        let _server = server("GET /\n");
        let mut terminal = Terminal::open();
        let client = netkit(["tcp-client", "--interactive", "127.0.0.1:80"])
            .stdin_from(terminal.device())
            .stdout("page")
            .start();
        terminal.type_in("GET /\n");
        client.finish();
    });
}

#[test]
#[ignore = "needs root"]
fn port_80_is_sent_only_given_data() {
    in_namespace(|| {
        let piped = Peer::listen_on("127.0.0.1:80", |mut connection| {
            connection.expect("HEAD / HTTP/1.0\r\n\r\n");
            connection.expect_eof();
            connection.send("head");
        });
        netkit(["tcp-client", "127.0.0.1:80"])
            .stdin("HEAD / HTTP/1.0\r\n\r\n")
            .stdout("head")
            .run();
        piped.finish();
        let by_option = Peer::listen_on("127.0.0.1:80", |mut connection| {
            connection.expect("x");
            connection.expect_eof();
        });
        netkit(["tcp-client", "127.0.0.1:80", "--send", "x"]).run();
        by_option.finish();
        let nothing = Peer::listen_on("127.0.0.1:80", |mut connection| {
            connection.expect_nothing_for(Duration::from_millis(200));
        });
        netkit(["tcp-client", "127.0.0.1:80", "--recv-only"]).run();
        nothing.finish();
    });
}

#[test]
#[ignore = "needs root"]
fn a_page_of_a_real_server_is_fetched_whole() {
    in_namespace(|| {
        let folder = temporary_folder();
        let page = random_bytes(5_000_000);
        std::fs::write(folder.path().join("index.html"), &page).unwrap();
        let arguments = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "80"];
        let Some(server) = peer("python3", arguments) else {
            return;
        };
        let mut server = server.current_dir(folder.path()).start();
        server.receive_line("Serving HTTP on 127.0.0.1 port 80 {*}");
        let client = netkit(["tcp-client", "127.0.0.1:80"]).any_stdout().run();
        assert!(client.stdout.starts_with(b"HTTP/1.0 200 OK\r\n"));
        assert!(client.stdout.ends_with(&page));
    });
}
