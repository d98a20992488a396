//! Which addresses and ports a server listens on.

use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::Signal;

use crate::harness::{Connection, Terminal, netkit, tcp_server};

#[test]
fn both_families_get_the_same_free_port() {
    let server = tcp_server(["-b", "127.0.0.1", "--bind", "::1"]).listen();
    let addresses = server.addresses(2);
    assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6());
    assert_eq!(addresses[0].port(), addresses[1].port());
    for address in addresses {
        let mut client = Connection::to(address);
        client.expect("Welcome!");
        server.wait_for_line(&format!("Accept new connection from {}...", client.local()));
    }
}

#[test]
fn a_server_listens_on_a_name_or_a_bracketed_address() {
    let server = tcp_server(["--host", "[::1]"]).listen();
    assert!(server.address().starts_with("[::1]:"));
    server.connect().expect("Welcome!");
    let server = tcp_server(["-4", "-b", "localhost"]).listen();
    assert!(server.address().starts_with("127.0.0.1:"));
    server.connect().expect("Welcome!");
}

#[test]
fn an_address_that_is_given_twice_is_listened_on_once() {
    let server = tcp_server(["-b", "127.0.0.1", "-b", "127.0.0.1"])
        .stderr("Listening on {*}\nWaiting for connection...\n")
        .listen();
    server.stop();
}

#[test]
fn an_address_that_all_addresses_have_is_refused_beside_them() {
    for (first, second, all) in [
        ("0.0.0.0", "127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "0.0.0.0", "0.0.0.0"),
        ("::1", "::", "::"),
    ] {
        for subcommand in ["tcp-server", "udp-server"] {
            netkit([subcommand, "-p", "0", "-b", first, "-b", second])
                .stderr(format!(
                    "netkit: could not listen on {first} and on {second}: {all} is all addresses; \
                     see 'netkit {subcommand} -h'\n"
                ))
                .code(2)
                .run();
        }
    }
}

#[test]
fn print_port_prints_the_port() {
    let mut server = tcp_server(["--print-port"]).listen();
    let port = server.receive_line("{N}");
    assert_eq!(port, server.port().to_string());
}

#[test]
fn a_server_without_a_usable_standard_error_serves() {
    for redirection in ["2>&-", "2>/dev/full", "2> >(:)"] {
        let mut server = tcp_server(["--print-port"])
            .through(&format!("exec \"$0\" \"$@\" {redirection}"))
            .start();
        let port = server.receive_line("{N}").parse().unwrap();
        for _ in 0..3 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut client = Connection::to(address);
            client.expect("Welcome!");
            client.send("Michael");
            client.expect("Hello, Michael!");
            client.reset();
        }
        server.signal(Signal::TERM);
        server.finish();
    }
}

#[test]
fn the_port_can_be_listened_on_again_at_once() {
    let server = tcp_server([]).listen();
    let address = server.address();
    let mut client = server.connect();
    client.expect("Welcome!");
    // The side that closes first keeps the connection in TIME_WAIT.
    client.send("exit");
    client.expect_eof();
    drop(client);
    let port = server.port().to_string();
    server.stop();
    let again = netkit(["tcp-server", "-p", &port]).any_stderr().listen();
    assert_eq!(again.address(), address);
}

#[test]
fn one_operand_names_the_address_and_the_port() {
    for (words, address) in [
        (&["0"] as &[_], "127.0.0.1"),
        (&[":0"], "127.0.0.1"),
        (&["127.0.0.2:0"], "127.0.0.2"),
        (&["[::1]:0"], "[::1]"),
        (&["localhost:0", "-4"], "127.0.0.1"),
        (&["0", "-b", "127.0.0.2"], "127.0.0.2"),
        (&["-l", "0"], "127.0.0.1"),
        (&["-lk", "0"], "127.0.0.1"),
        (&["-lp", "0"], "127.0.0.1"),
        (&["-lkp", "0"], "127.0.0.1"),
    ] {
        for subcommand in ["tcp-server", "udp-server"] {
            if subcommand == "udp-server" && words[0].contains('k') {
                continue;
            }
            let server = netkit([subcommand].iter().chain(words));
            let server = server.stdin_open().any_stderr().listen();
            let place = server.address();
            assert_eq!(place, format!("{address}:{}", server.port()), "{words:?}");
            server.signal(Signal::TERM);
        }
    }
}

#[test]
fn an_operand_that_says_too_much_or_too_little_is_refused() {
    for (words, message) in [
        ("9999 -p 1", "9999 names the port already: leave --port out"),
        (
            "[::]:9999 -b any",
            "[::]:9999 names the address already: leave --bind out",
        ),
        ("1.2.3.4", "'1.2.3.4' has no port; write 1.2.3.4:9999"),
        (
            "::1:9999",
            "'::1:9999' is an IPv6 address without a port; if 9999 is the port, write [::1]:9999",
        ),
        (
            "1 2",
            "too many arguments: '2'; write an address and its port as in 127.0.0.1:9999",
        ),
        (
            "-l 127.0.0.1 9999",
            "too many arguments: '9999'; write an address and its port as in 127.0.0.1:9999",
        ),
        (
            "some-host",
            "'some-host' is not a port; a port is a number from 1 to 65535, or a name of \
             /etc/services for tcp; for an address write some-host:9999",
        ),
        (
            "127.0.0.1:",
            "'127.0.0.1:' has no port; write 127.0.0.1:9999",
        ),
        (
            "-q 9999",
            "'-q' is --quiet and takes no number; for nc's -q write --wait-after-eof 9999, and \
             for port 9999 --port 9999",
        ),
        (
            "65536",
            "'65536' is not a port; a port is a number from 0 to 65535, and 0 takes a free one",
        ),
        (
            "-e /bin/cat 9999",
            "which port? -e takes all that follows it; write netkit tcp-server 9999 -e /bin/cat",
        ),
        (
            "-l",
            "which port? write --port 9999, or --port 0 for a free one",
        ),
    ] {
        netkit(["tcp-server"].into_iter().chain(words.split(' ')))
            .stderr(format!("netkit: {message}; see 'netkit tcp-server -h'\n"))
            .code(2)
            .run();
    }
}

#[test]
fn l_serves_one_connection_and_lk_goes_on() {
    for (options, again) in [
        (&["-l"] as &[_], false),
        (&["-lk"], true),
        (&["-l", "--sh-exec", "echo Welcome!"], false),
        (&["-lk", "--sh-exec", "echo Welcome!"], true),
    ] {
        let server = tcp_server(options.iter().copied())
            .stdin("Welcome!\n")
            .listen();
        let mut first = server.connect();
        first.expect("Welcome!\n");
        first.shutdown();
        first.expect_eof();
        if again {
            server.connect().shutdown();
            server.stop();
        } else {
            server.finish();
        }
    }
}

#[test]
fn a_person_who_types_l_is_told_who_can_connect() {
    let run = |words: &[&str]| {
        let mut terminal = Terminal::open();
        let server = netkit(["tcp-server"].iter().chain(words))
            .stdin_from(terminal.device())
            .stderr_to(terminal.device())
            .start();
        assert!(terminal.expect_line().starts_with("Listening on "));
        let line = terminal.expect_line();
        server.signal(Signal::TERM);
        server.finish();
        line
    };
    assert_eq!(run(&["-l", "0"]), "This machine only; -b any for all.");
    for words in [
        &["0"] as &[_],
        &["-l", "127.0.0.1:0"],
        &["-l", "0", "-b", "127.0.0.1"],
    ] {
        assert_eq!(run(words), "Waiting for connection...");
    }
}

#[test]
fn a_port_may_be_named_as_in_etc_services() {
    // Ports that only root can listen on: the message shows the number.
    for (subcommand, name, port) in [
        ("tcp-server", "http", 80),
        ("tcp-server", "www", 80),
        ("tcp-server", "shell", 514),
        ("udp-server", "syslog", 514),
    ] {
        for words in [vec!["-p", name], vec![name]] {
            netkit([subcommand].iter().chain(&words))
                .arg("--interface")
                .arg("nosuch0")
                .stderr(format!(
                    "netkit: could not listen on 127.0.0.1:{port}: --interface nosuch0: {{*}}\n"
                ))
                .code(2)
                .run();
        }
    }
    netkit(["tcp-server", "-p", "tftp"])
        .stderr(
            "netkit: 'tftp' is not a port; a port is a number from 1 to 65535, or a name of \
             /etc/services for tcp; see 'netkit tcp-server -h'\n",
        )
        .code(2)
        .run();
}

#[test]
fn a_program_with_its_arguments_in_one_word_is_told_the_way_out() {
    netkit(["tcp-server", "0", "-e", "cat -n"])
        .stderr(
            "netkit: could not run cat -n: no such file or directory \
             (-e takes words: write -e cat -n, or --sh-exec 'cat -n')\n",
        )
        .code(2)
        .run();
}
