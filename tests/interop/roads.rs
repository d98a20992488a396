//! Proxies and PROXY protocol receivers of others.

use std::fs;

use crate::harness::{
    Peer, Process, ReservedPort, netkit, peer, random_bytes, tcp_server, temporary_folder,
};

/// A proxy that is ready, and its URL.
type Running = (Process, ReservedPort, String);

/// ncat as an HTTP proxy. It listens on all addresses, whatever it is told.
fn ncat() -> Option<Running> {
    let port = ReservedPort::tcp();
    let arguments = format!("-v -l -k --proxy-type http 127.0.0.1 {}", port.text());
    let proxy = peer("ncat", arguments.split(' '))?.start();
    proxy.wait_for_line("Ncat: Listening on 0.0.0.0:{N}");
    let url = format!("http://127.0.0.1:{}", port.text());
    Some((proxy, port, url))
}

/// microsocks: SOCKS 5, with a password.
fn microsocks() -> Option<Running> {
    let port = ReservedPort::tcp();
    let arguments = format!("-i 127.0.0.1 -u me -P pw -p {}", port.text());
    let proxy = peer("microsocks", arguments.split(' '))?.start();
    let url = format!("socks5h://me:pw@127.0.0.1:{}", port.text());
    Some((proxy, port, url))
}

/// tinyproxy: HTTP.
fn tinyproxy() -> Option<Running> {
    let port = ReservedPort::tcp();
    let folder = temporary_folder();
    let file = folder.path().join("conf");
    let text = format!(
        "Port {}\nListen 127.0.0.1\nTimeout 60\nAllow 127.0.0.1\n",
        port.text()
    );
    fs::write(&file, text).unwrap();
    let proxy = peer("tinyproxy", ["-d", "-c", file.to_str().unwrap()])?.start();
    let url = format!("http://127.0.0.1:{}", port.text());
    // The folder may go only after the file has been read.
    wait_for(&url);
    Some((proxy, port, url))
}

/// Waits until a proxy listens that does not say so.
fn wait_for(url: &str) {
    let address = url.rsplit(['/', '@']).next().unwrap();
    netkit([
        "tcp-client",
        "-z",
        "--wait",
        "10s",
        "--retry-delay",
        "10ms",
        address,
    ])
    .any_stdout()
    .any_stderr()
    .run();
}

#[test]
fn much_data_and_half_closes_pass_through_the_proxies_of_others() {
    for (_proxy, _port, url) in [ncat(), microsocks(), tinyproxy()].into_iter().flatten() {
        wait_for(&url);
        let bytes = random_bytes(1 << 20);
        let expected = bytes.clone();
        let target = Peer::listen(move |mut connection| {
            connection.send("banner");
            let mut received = vec![0; expected.len()];
            std::io::Read::read_exact(&mut connection.stream(), &mut received).unwrap();
            assert!(received == expected);
            connection.send("got it");
        });
        let client = netkit([
            "tcp-client",
            target.address(),
            "--proxy",
            &url,
            "--no-shutdown",
        ]);
        client.stdin(bytes).stdout("bannergot it").run();
        target.finish();
    }
}

#[test]
fn a_target_that_is_down_is_exit_1_behind_the_proxies_of_others() {
    for (_proxy, _port, url) in [ncat(), microsocks(), tinyproxy()].into_iter().flatten() {
        wait_for(&url);
        let down = ReservedPort::tcp();
        let target = format!("127.0.0.1:{}", down.text());
        netkit(["tcp-client", "-z", &target, "--proxy", &url])
            .code(1)
            .stderr(format!(
                "netkit: could not connect to {target} through 127.0.0.1:{{*}}\n"
            ))
            .run();
    }
}

#[test]
fn a_chain_leads_through_two_proxies_of_others() {
    let (Some(first), Some(second)) = (ncat(), microsocks()) else {
        return;
    };
    wait_for(&second.2);
    let server = tcp_server([]).listen();
    netkit([
        "tcp-client",
        &server.address(),
        "--proxy",
        &first.2,
        "--proxy",
        &second.2,
    ])
    .args(["--no-shutdown"])
    .stdin("exit\n")
    .stdout("Welcome!")
    .run();
}

#[test]
fn haproxy_takes_our_header_and_sends_one_that_we_take() {
    let folder = temporary_folder();
    let file = folder.path().join("conf");
    let script = "echo from $NETKIT_REMOTE_ADDR";
    let server = tcp_server(["--accept-proxy", "--sh-exec", script]).listen();
    for version in ["v1", "v2"] {
        let port = ReservedPort::tcp();
        let send = if version == "v1" {
            "send-proxy"
        } else {
            "send-proxy-v2"
        };
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n\
             listen x\n bind 127.0.0.1:{} accept-proxy\n server s {} {send}\n",
            port.text(),
            server.address()
        );
        fs::write(&file, text).unwrap();
        let Some(haproxy) = peer("haproxy", ["-db", "-f", file.to_str().unwrap()]) else {
            return;
        };
        let _haproxy = haproxy.start();
        let address = format!("127.0.0.1:{}", port.text());
        wait_for(&address);
        let option = format!("--send-proxy={version}");
        // haproxy drops a client that has ended before its own connection stands.
        netkit([
            "tcp-client",
            &address,
            &option,
            "--send-proxy-from",
            "192.0.2.7:5",
            "--no-shutdown",
        ])
        .stdin("")
        .stdout("from 192.0.2.7\n")
        .run();
    }
}

#[test]
fn ssh_connects_through_netkit_as_its_proxy_command() {
    // No server is needed: ssh shows what its ProxyCommand has received.
    let Some((_proxy, _port, url)) = ncat() else {
        return;
    };
    let target = Peer::listen(|mut connection| {
        connection.expect("SSH-2.0-");
        connection.send("SSH-2.0-test\r\n");
        connection.drain();
    });
    let command = format!(
        "ProxyCommand={} tcp-client --proxy {url} %h %p",
        env!("CARGO_BIN_EXE_netkit")
    );
    let arguments = [
        "-v",
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=5",
    ];
    let Some(ssh) = peer("ssh", arguments) else {
        return;
    };
    let ssh = ssh
        .args(["-o", &command, "-p", target.port(), "127.0.0.1"])
        .start();
    ssh.wait_for_line("{*}remote software version test{*}");
    drop(ssh);
    target.finish();
}
