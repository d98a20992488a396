//! The programs of a well-known Python tutorial, changed in nothing but the port.

use std::time::Duration;

use crate::harness::{Process, Program, netkit, peer, tcp_server, udp_server};

const TCP_CLIENT: &str = "
import socket

s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
# 建立连接:
s.connect(('127.0.0.1', 9999))
# 接收欢迎消息:
print(s.recv(1024).decode('utf-8'))
for data in [b'Michael', b'Tracy', b'Sarah']:
    # 发送数据:
    s.send(data)
    print(s.recv(1024).decode('utf-8'))
s.send(b'exit')
s.close()
";

const TCP_SERVER: &str = "
import socket, threading, time

s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
# 监听端口:
s.bind(('127.0.0.1', 9999))
s.listen(5)
print('Waiting for connection...')

def tcplink(sock, addr):
    print('Accept new connection from %s:%s...' % addr)
    sock.send(b'Welcome!')
    while True:
        data = sock.recv(1024)
        time.sleep(1)
        if not data or data.decode('utf-8') == 'exit':
            break
        sock.send(('Hello, %s!' % data.decode('utf-8')).encode('utf-8'))
    sock.close()
    print('Connection from %s:%s closed.' % addr)

while True:
    # 接受一个新连接:
    sock, addr = s.accept()
    # 创建新线程来处理TCP连接:
    t = threading.Thread(target=tcplink, args=(sock, addr))
    t.start()
";

const WAITING: &str = "Waiting for connection...\n";

const UDP_CLIENT: &str = "
import socket

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for data in [b'Michael', b'Tracy', b'Sarah']:
    # 发送数据:
    s.sendto(data, ('127.0.0.1', 9999))
    # 接收数据:
    print(s.recv(1024).decode('utf-8'))
s.close()
";

const UDP_SERVER: &str = "
import socket

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
# 绑定端口:
s.bind(('127.0.0.1', 9999))
print('Bind UDP on 9999...')
while True:
    # 接收数据:
    data, addr = s.recvfrom(1024)
    print('Received from %s:%s.' % addr)
    s.sendto(b'Hello, %s!' % data, addr)
";

fn python(program: &str) -> Option<Program> {
    peer("python3", ["-u", "-c", program])
}

/// A server of the tutorial on a free port, and that port.
fn server(program: &str, ready: &str) -> Option<(Process, String)> {
    let program = program.replace("9999))", "0)); print(s.getsockname()[1])");
    let mut server = python(&program)?.start();
    let port = server.receive_line("{N}");
    server.receive(ready);
    Some((server, port))
}

#[test]
fn the_tcp_client_talks_to_our_server() {
    let server = tcp_server([]).listen();
    let port = server.port().to_string();
    let Some(client) = python(&TCP_CLIENT.replace("9999", &port)) else {
        return;
    };
    client
        .stdout("Welcome!\nHello, Michael!\nHello, Tracy!\nHello, Sarah!\n")
        .stderr("")
        .code(0)
        .run();
    server.wait_for_line("Connection from 127.0.0.1:{N} closed.");
}

#[test]
fn our_tcp_client_waits_a_second_for_the_servers_answer() {
    let Some((mut server, port)) = server(TCP_SERVER, WAITING) else {
        return;
    };
    let client = netkit(["tcp-client", "127.0.0.1", &port])
        .stdin("Michael")
        .stdout("Welcome!Hello, Michael!")
        .run();
    assert!(client.took >= Duration::from_secs(1), "{client:?}");
    server.receive_line("Accept new connection from 127.0.0.1:{N}...");
    server.receive_line("Connection from 127.0.0.1:{N} closed.");
}

#[test]
fn our_tcp_client_has_a_dialogue_with_the_server() {
    let Some((_server, port)) = server(TCP_SERVER, WAITING) else {
        return;
    };
    // A program that talks through pipes leaves with the server.
    let options = ["--half-close-wait", "0"];
    let mut client = netkit(["tcp-client", "127.0.0.1", &port].iter().chain(&options))
        .stdin_open()
        .start();
    client.receive("Welcome!");
    for name in ["Michael", "Tracy"] {
        client.send(name);
        client.receive(format!("Hello, {name}!"));
    }
    client.send("exit");
    client.finish();
}

#[test]
fn our_tcp_client_in_lockstep_is_the_client() {
    let Some((_server, port)) = server(TCP_SERVER, WAITING) else {
        return;
    };
    let texts = [
        "--lockstep",
        "--send=Michael",
        "--send=Tracy",
        "--send=exit",
    ];
    netkit(["tcp-client", "127.0.0.1", &port].iter().chain(&texts))
        .stdout("Welcome!Hello, Michael!Hello, Tracy!")
        .run();
}

#[test]
fn the_udp_client_talks_to_our_server() {
    let server = udp_server([]).listen();
    let port = server.port().to_string();
    let Some(client) = python(&UDP_CLIENT.replace("9999", &port)) else {
        return;
    };
    client
        .stdout("Hello, Michael!\nHello, Tracy!\nHello, Sarah!\n")
        .stderr("")
        .code(0)
        .run();
    server.wait_for_lines("Received from 127.0.0.1:{N}.", 3);
}

#[test]
fn our_udp_client_talks_to_the_server() {
    let Some((mut server, port)) = server(UDP_SERVER, "Bind UDP on 9999...\n") else {
        return;
    };
    netkit(["udp-client", "127.0.0.1", &port])
        .stdin("Michael\nTracy\nSarah\n")
        .stdout("Hello, Michael!\nHello, Tracy!\nHello, Sarah!\n")
        .run();
    for _ in 0..3 {
        server.receive_line("Received from 127.0.0.1:{N}.");
    }
}
