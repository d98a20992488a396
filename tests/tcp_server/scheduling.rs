//! The scheduling policy of threads and programs.

use crate::harness::{Connection, tcp_server};

/// The scheduling policy of every thread of a process (proc(5)).
fn policies(process: impl std::fmt::Display) -> Vec<String> {
    std::fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        // A thread may end meanwhile.
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok())
        .map(|stat| {
            let fields = stat.rsplit_once(") ").unwrap().1;
            fields.split(' ').nth(38).unwrap().to_owned()
        })
        .collect()
}

#[test]
fn threads_run_under_sched_batch_only_while_many_clients_are_served() {
    const CROWD: usize = 16;
    if policies("self").iter().any(|own| own != "0") {
        eprintln!("skipped: the tests run under another policy than the usual one");
        return;
    }
    let server = tcp_server([]).listen();
    let under = |policy| {
        let policies = policies(server.pid());
        policies.iter().filter(|other| *other == policy).count()
    };
    // The second answer shows that the thread has applied the policy after the first.
    let exchange = |client: &mut Connection| {
        for name in ["a", "b"] {
            client.send(name);
            client.expect(format!("Hello, {name}!"));
        }
    };
    let mut clients = Vec::new();
    for count in 1..=CROWD {
        assert_eq!(under("3"), 0, "before client {count}");
        let mut client = server.connect();
        client.expect("Welcome!");
        exchange(&mut client);
        clients.push(client);
    }
    clients.iter_mut().for_each(exchange);
    assert!(under("3") >= CROWD);
    let before = under("0");
    let mut last = clients.pop().unwrap();
    for mut client in clients {
        client.send("exit");
        client.expect_eof();
    }
    exchange(&mut last);
    assert!(under("0") > before);
}

#[test]
fn a_program_runs_under_the_policy_of_the_process_that_started_the_server() {
    let own = policies("self");
    let asks = ["-e", "cut", "-d", " ", "-f", "41", "/proc/self/stat"];
    let server = tcp_server(asks).listen();
    let said = server.connect().receive_all();
    assert_eq!(String::from_utf8(said).unwrap(), format!("{}\n", own[0]));
}
