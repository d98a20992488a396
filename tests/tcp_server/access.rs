//! `--allow`, `--deny` and the limit per host: who may connect.

use std::fs;
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{DEADLINE, Server, netkit, program, tcp_server, temporary_folder};

/// Whether the server serves a client from `source`.
fn is_let_in(server: &Server, source: &str) -> bool {
    let client = netkit(["tcp-client", "--source", source, "--send", "exit"]);
    let printed = client
        .arg(server.address())
        .any_stdout()
        .any_stderr()
        .any_code()
        .run()
        .stdout;
    assert!(printed.is_empty() || printed == b"Welcome!");
    !printed.is_empty()
}

#[test]
fn allow_and_deny_decide_who_is_served() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, bool)]);
    let cases: &[Case<'_>] = &[
        (
            &["--allow", "127.0.0.2"],
            &[("127.0.0.2", true), ("127.0.0.1", false)],
        ),
        (
            &["--deny", "127.0.0.2"],
            &[("127.0.0.2", false), ("127.0.0.1", true)],
        ),
        (
            &["--deny", "127.0.0.0/8", "--allow", "127.0.0.4/30"],
            &[
                ("127.0.0.3", false),
                ("127.0.0.4", true),
                ("127.0.0.7", true),
                ("127.0.0.8", false),
            ],
        ),
        (
            &["--allow", "127.0.0.2", "--allow", "::ffff:127.0.0.3"],
            &[
                ("127.0.0.2", true),
                ("127.0.0.3", true),
                ("127.0.0.4", false),
            ],
        ),
        (
            &["--allow", "localhost"],
            &[("127.0.0.1", true), ("127.0.0.2", false)],
        ),
        (
            &["--deny", "localhost"],
            &[("127.0.0.1", false), ("127.0.0.2", true)],
        ),
        (&["--allow", "::1"], &[("127.0.0.1", false)]),
    ];
    for (options, peers) in cases {
        let server = tcp_server(options.iter().copied()).listen();
        for (source, may) in *peers {
            assert_eq!(is_let_in(&server, source), *may, "{options:?} {source}");
        }
    }
}

#[test]
fn denied_connections_are_logged_once_and_counted() {
    let server = tcp_server(["--deny", "127.0.0.1"]).listen();
    for _ in 0..3 {
        server.expect_rejection();
    }
    server.wait_for_line("netkit: refused {*}: not allowed (--deny)");
    server.signal(Signal::TERM);
    server.wait_for_line("netkit: refused 3 connections in all: they were not allowed");
}

#[test]
fn sighup_reads_the_files_of_lists_again() {
    let folder = temporary_folder();
    let path = folder.path().join("friends");
    fs::write(&path, "# friends\n\n127.0.0.2  # the first\n127.0.0.8/29\n").unwrap();
    let file = format!("@{}", path.display());
    let server = tcp_server(["--allow", &file]).listen();
    let who = |server: &Server| {
        ["127.0.0.1", "127.0.0.2", "127.0.0.15"].map(|source| is_let_in(server, source))
    };
    assert_eq!(who(&server), [false, true, true]);
    fs::write(&path, "127.0.0.1\n").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("Read the files of --allow and --deny again.");
    assert_eq!(who(&server), [true, false, false]);
    fs::write(&path, "127.0.0.1\n10.0.0.0/40\n").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("netkit: {*}friends, line 2: '10.0.0.0/40' is not a peer; {*}");
    assert_eq!(who(&server), [true, false, false]);
    server.stop();
}

#[test]
fn a_list_that_cannot_be_read_is_an_error() {
    netkit(["tcp-server", "-p", "0", "--allow", "10.0.0.0/33"])
        .stderr(
            "netkit: '10.0.0.0/33' is not a peer; write a network (10.0.0.0/8, fe80::/10), \
             an address, a name or @FILE (--allow)\n",
        )
        .code(2)
        .run();
    netkit(["tcp-server", "-p", "0", "--deny", "@/no/such/file"])
        .stderr("netkit: could not read /no/such/file: no such file or directory (--deny)\n")
        .code(2)
        .run();
}

#[test]
fn what_looks_like_a_number_is_a_whole_address_or_an_error() {
    let numbers = [
        "10",
        "10.0.0",
        "0x0a000001",
        "010.0.0.10",
        "0x7f.1",
        "10.0.0.*",
    ];
    for number in numbers {
        let message = format!(
            "'{number}' is not a whole address; write one (10.0.0.1) or a network (10.0.0.0/8)"
        );
        netkit(["tcp-server", "-p", "0", "--deny", number])
            .stderr(format!("netkit: {message} (--deny)\n"))
            .code(2)
            .run();
        let folder = temporary_folder();
        let path = folder.path().join("list");
        fs::write(&path, format!("# foes\n127.0.0.9 {number}\n")).unwrap();
        let path = path.to_str().unwrap();
        netkit(["udp-server", "-p", "0", "--allow", &format!("@{path}")])
            .stderr(format!("netkit: {path}, line 2: {message} (--allow)\n"))
            .code(2)
            .run();
    }
    netkit(["tcp-server", "-p", "0", "--deny", "::ffff:10.0.0.1/32"])
        .stderr(
            "netkit: '::ffff:10.0.0.1/32' is no network of IPv4 addresses, as its /32 is less than \
             /96; write 10.0.0.1/32 (--deny)\n",
        )
        .code(2)
        .run();
}

#[test]
fn a_file_may_come_from_any_editor() {
    let folder = temporary_folder();
    let path = folder.path().join("friends");
    let text = "\u{feff}127.0.0.2 127.0.0.3\t::1 # two, and one\r\n\r\n# nobody\r\n  127.0.0.4";
    fs::write(&path, text).unwrap();
    let server = tcp_server(["--allow", &format!("@{}", path.display())]).listen();
    let who = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
    assert_eq!(
        who.map(|source| is_let_in(&server, source)),
        [false, true, true, true]
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_in_place_of_a_list_changes_nothing_and_leaves_no_thread() {
    let folder = temporary_folder();
    let path = folder.path().join("friends");
    fs::write(&path, "127.0.0.2\n").unwrap();
    let server = tcp_server(["--allow", &format!("@{}", path.display())]).listen();
    fs::remove_file(&path).unwrap();
    program("mkfifo", [&path]).run();
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
        let names = tasks.filter_map(|task| name(task.unwrap()).ok());
        names.filter(|name| name == "access\n").count()
    };
    for count in 1..=5 {
        server.signal(Signal::HUP);
        server.wait_for_lines(
            "netkit: could not read {*}friends: it is not a regular file, which can be read again \
             (--allow); what was read before holds",
            count,
        );
    }
    // A thread that has told its error still has to end.
    let limit = Instant::now() + DEADLINE;
    while threads() > 0 {
        assert!(Instant::now() < limit, "{} threads are left", threads());
    }
    assert!(is_let_in(&server, "127.0.0.2"));
    assert!(!is_let_in(&server, "127.0.0.1"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "127.0.0.1\n").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("Read the files of --allow and --deny again.");
    assert!(is_let_in(&server, "127.0.0.1"));
}

#[test]
fn of_two_quick_hangups_the_newer_list_holds() {
    let folder = temporary_folder();
    let path = folder.path().join("friends");
    fs::write(&path, "127.0.0.3\n").unwrap();
    let server = tcp_server(["--allow", &format!("@{}", path.display())]).listen();
    // A long list takes a while; the short one that replaces it does not.
    let long = "127.0.0.1\n".to_owned() + &"10.0.0.1\n".repeat(200_000);
    fs::write(&path, long).unwrap();
    server.signal(Signal::HUP);
    let short = folder.path().join("short");
    fs::write(&short, "127.0.0.2\n").unwrap();
    fs::rename(&short, &path).unwrap();
    server.signal(Signal::HUP);
    while !is_let_in(&server, "127.0.0.2") {}
    assert!(!is_let_in(&server, "127.0.0.1"));
}

#[test]
fn each_host_has_a_limit_of_its_own() {
    let server = tcp_server(["--max-connections-per-ip", "2"]).listen();
    let mut open: Vec<_> = (0..2)
        .map(|_| {
            let mut client = server.connect();
            client.expect("Welcome!");
            client
        })
        .collect();
    server.expect_rejection();
    server.wait_for_line(
        "netkit: refused {*}: 2 connections are open from 127.0.0.1 (--max-connections-per-ip 2)",
    );
    assert!(is_let_in(&server, "127.0.0.2"));
    open.pop();
    server.wait_for_lines("Connection from {*} closed{*}.", 2);
    assert!(is_let_in(&server, "127.0.0.1"));
}
