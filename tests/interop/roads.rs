//! Proxies and PROXY protocol receivers of others.

use std::fs;
use std::io::Read as _;

use super::proxies::{self, wait_for, write};
use crate::harness::{
    Folder, Peer, Process, ReservedPort, netkit, netkit_path, peer, random_bytes, tcp_server,
    temporary_folder,
};

#[test]
fn much_data_passes_through_the_proxies_of_others() {
    for proxy in proxies::all() {
        let bytes = random_bytes(1 << 20);
        let expected = bytes.clone();
        let target = Peer::listen(move |mut connection| {
            connection.send("banner");
            let mut received = vec![0; expected.len()];
            connection.stream().read_exact(&mut received).unwrap();
            assert!(received == expected);
            connection.send("got it");
        });
        let options = ["--no-shutdown", "--proxy", &proxy.url];
        netkit(["tcp-client", target.address()].into_iter().chain(options))
            .stdin(bytes)
            .stdout("bannergot it")
            .run();
        target.finish();
    }
}

/// Reads to the end, and answers then.
fn target(expected: Vec<u8>) -> Peer {
    Peer::listen(move |mut connection| {
        assert!(connection.receive_all() == expected);
        connection.send("got it");
    })
}

#[test]
fn a_half_close_passes_through_the_proxies_that_pass_it() {
    for proxy in proxies::all().filter(|proxy| proxy.passes_half_closes) {
        let bytes = random_bytes(1 << 20);
        let target = target(bytes.clone());
        netkit(["tcp-client", target.address(), "--proxy", &proxy.url])
            .stdin(bytes)
            .stdout("got it")
            .run();
        target.finish();
    }
}

#[test]
fn a_half_close_passes_through_haproxy() {
    let server = tcp_server(["--sh-exec", "wc -c"]).listen();
    let Some(haproxy) = haproxy("", &server.address(), "") else {
        return;
    };
    netkit(["tcp-client", &haproxy.address])
        .stdin(random_bytes(1 << 20))
        .stdout("1048576\n")
        .run();
}

#[test]
fn a_proxy_that_takes_a_half_close_for_a_hang_up_is_told_with_the_way_out() {
    for proxy in proxies::all().filter(|proxy| !proxy.passes_half_closes) {
        let target = Peer::listen(|mut connection| connection.drain());
        let through = proxy.url.rsplit(['/', '@']).next().unwrap();
        netkit(["tcp-client", target.address(), "--proxy", &proxy.url])
            .stdin("GET / HTTP/1.0\r\n\r\n")
            .stderr(format!(
                "netkit: {} through {through} ended without an answer; some proxies take the end of input \
                 for a hang-up: try --no-shutdown\n",
                target.address()
            ))
            .run();
    }
}

#[test]
fn a_target_that_is_down_is_exit_1_behind_the_proxies_of_others() {
    for proxy in proxies::all() {
        let down = ReservedPort::tcp();
        let target = format!("127.0.0.1:{}", down.text());
        netkit(["tcp-client", "-z", &target, "--proxy", &proxy.url])
            .code(1)
            .stderr(format!(
                "netkit: could not connect to {target} through 127.0.0.1:{{*}}\n"
            ))
            .run();
    }
}

#[test]
fn ssh_resolves_the_name_that_it_is_asked_for() {
    let Some(proxy) = proxies::ssh() else { return };
    let server = tcp_server([]).listen();
    let target = format!("localhost:{}", server.port());
    for scheme in ["socks4a://", "socks5h://"] {
        let url = proxy.url.replace("socks5h://", scheme);
        netkit(["tcp-client", &target, "--proxy", &url])
            .stdin("Bob")
            .stdout("Welcome!Hello, Bob!")
            .run();
    }
}

#[test]
fn a_chain_leads_through_two_proxies_of_others() {
    let (Some(first), Some(second)) = (proxies::ncat(), proxies::microsocks()) else {
        return;
    };
    let server = tcp_server([]).listen();
    let chain = ["--proxy", &first.url, "--proxy", &second.url];
    netkit(["tcp-client", &server.address()].into_iter().chain(chain))
        .args(["--no-shutdown"])
        .stdin("exit\n")
        .stdout("Welcome!")
        .run();
}

/// A program that forwards connections, and where.
struct Forwarder {
    address: String,
    _process: Process,
    _port: ReservedPort,
    _folder: Folder,
}

impl Forwarder {
    /// Blocks until `process` listens at `address`.
    fn ready(process: Process, address: String, port: ReservedPort, folder: Folder) -> Self {
        wait_for(&address);
        Self {
            address,
            _process: process,
            _port: port,
            _folder: folder,
        }
    }
}

/// haproxy, with these words for its listener and for its server.
fn haproxy(listener: &str, target: &str, server: &str) -> Option<Forwarder> {
    let (port, folder) = (ReservedPort::tcp(), temporary_folder());
    let address = format!("127.0.0.1:{}", port.text());
    let text = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
         listen x\n bind {address} {listener}\n server s {target} {server}\n"
    );
    let file = write(&folder, "conf", &text);
    let process = peer("haproxy", ["-db", "-f", &file])?.start();
    Some(Forwarder::ready(process, address, port, folder))
}

/// nginx with `servers`, a part of its configuration in which LISTEN stands for its address.
fn nginx(servers: &str) -> Option<Forwarder> {
    let (port, folder) = (ReservedPort::tcp(), temporary_folder());
    let address = format!("127.0.0.1:{}", port.text());
    let path = folder.path().display();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {path}/{name};"));
    let text = format!(
        "daemon off; master_process off; pid {path}/pid; error_log stderr;\n{}\nevents {{}}\n",
        servers
            .replace("LISTEN", &address)
            .replace("PATHS", &paths.concat())
    );
    let file = write(&folder, "conf", &text);
    let process = peer("nginx", ["-e", "stderr", "-c", &file])?.start();
    Some(Forwarder::ready(process, address, port, folder))
}

#[test]
fn haproxy_takes_our_header_and_sends_one_that_we_take() {
    let script = "echo from $NETKIT_REMOTE_ADDR";
    let server = tcp_server(["--accept-proxy", "--sh-exec", script]).listen();
    for (version, send) in [("v1", "send-proxy"), ("v2", "send-proxy-v2")] {
        let Some(haproxy) = haproxy("accept-proxy", &server.address(), send) else {
            return;
        };
        let header = format!("--send-proxy={version}");
        let source = ["--send-proxy-from", "192.0.2.7:5"];
        // haproxy drops a client that has ended before its own connection stands.
        netkit(["tcp-client", &haproxy.address, &header, "--no-shutdown"])
            .args(source)
            .stdin("")
            .stdout("from 192.0.2.7\n")
            .run();
    }
}

#[test]
fn nginx_takes_our_header() {
    let http = "http { access_log off; PATHS server { listen LISTEN proxy_protocol; \
                location / { return 200 \"from $proxy_protocol_addr $proxy_protocol_port\\n\"; } } }";
    let Some(nginx) = nginx(http) else { return };
    for version in ["--send-proxy=v1", "--send-proxy=v2"] {
        let source = ["--send-proxy-from", "192.0.2.7:5"];
        let client = netkit(["tcp-client", &nginx.address, "--get", version]).args(source);
        let page = String::from_utf8(client.any_stdout().run().stdout).unwrap();
        assert!(page.ends_with("\r\n\r\nfrom 192.0.2.7 5\n"), "{page}");
    }
}

#[test]
fn nginx_sends_a_header_that_we_take() {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if peer(MODULE, []).is_none() {
        return;
    }
    let script = "echo from $NETKIT_REMOTE_ADDR $NETKIT_REMOTE_PORT";
    let server = tcp_server(["--accept-proxy", "--sh-exec", script]).listen();
    let stream = format!(
        "load_module {MODULE}; stream {{ server {{ listen LISTEN; proxy_pass {}; proxy_protocol on; }} }}",
        server.address()
    );
    let Some(nginx) = nginx(&stream) else { return };
    let own = ReservedPort::tcp();
    let from = ["--source", "127.0.0.1", "--source-port", &own.text()];
    netkit([
        "tcp-client",
        &nginx.address,
        "--no-shutdown",
        "--reuse-port",
    ])
    .args(from)
    .stdin("")
    .stdout(format!("from 127.0.0.1 {}\n", own.text()))
    .run();
}

#[test]
fn a_large_file_is_copied_by_scp_through_netkit_and_a_proxy() {
    let (Some(server), Some(proxy)) = (proxies::sshd(), proxies::microsocks()) else {
        return;
    };
    let folder = temporary_folder();
    let bytes = random_bytes(8 << 20);
    let file = folder.path().join("file");
    fs::write(&file, &bytes).unwrap();
    let copy = format!("{}/copy", server.writable());
    let command = format!(
        "ProxyCommand={} tcp-client --proxy {} %h %p",
        netkit_path(),
        proxy.url
    );
    let remote = format!("{}:{copy}", server.login());
    let Some(scp) = server.client("scp") else {
        return;
    };
    scp.args(["-o", &command, "-P", &server.port()])
        .args([file.to_str().unwrap(), &remote])
        .code(0)
        .run();
    assert!(fs::read(&copy).unwrap() == bytes);
    // And back.
    let back = folder.path().join("back");
    let Some(scp) = server.client("scp") else {
        return;
    };
    scp.args(["-o", &command, "-P", &server.port()])
        .args([&remote, back.to_str().unwrap()])
        .code(0)
        .run();
    assert!(fs::read(&back).unwrap() == bytes);
}

#[test]
fn ssh_connects_through_netkit_as_its_proxy_command() {
    // No server is needed: ssh shows what its ProxyCommand has received.
    let Some(proxy) = proxies::ncat() else {
        return;
    };
    let target = Peer::listen(|mut connection| {
        connection.expect("SSH-2.0-");
        connection.send("SSH-2.0-test\r\n");
        connection.drain();
    });
    let command = format!(
        "ProxyCommand={} tcp-client --proxy {} %h %p",
        netkit_path(),
        proxy.url
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
