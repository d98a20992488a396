//! Real peers, in both directions and over both families; and much data at once.

use std::net::IpAddr;
use std::time::Duration;

use rustix::process::Signal;
use socket2::Type;

use crate::harness::{Program, ReservedPort, Server, netkit, peer, random_bytes, tcp_server};

const ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];

/// As it stands in `socat`'s addresses.
fn in_brackets(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}

/// Our client talks to a peer that listens: each says one thing and ends.
mod client {
    use super::*;

    /// Starts `listener`, waits until it listens, and talks to it.
    fn talk(listener: Option<Program>, address: &str, ready: &str, port: Option<&str>) {
        let Some(listener) = listener else {
            return;
        };
        let listener = listener
            .stdin("from the peer")
            .stdout("from netkit")
            .code(0)
            .start();
        let line = listener.wait_for_line(ready);
        let port = port.unwrap_or_else(|| line.rsplit([' ', ':']).next().unwrap());
        let client = netkit(["tcp-client", address, port])
            .stdin_open()
            .stdout("from the peer")
            .start();
        client.send("from netkit");
        // Not before: ncat leaves what it has to say unsaid if it hears of the end first.
        client.wait_for_stdout("from the peer".len());
        client.finish();
        listener.finish();
    }

    #[test]
    fn talks_to_nc() {
        for address in ADDRESSES {
            let nc = peer("nc", ["-lvN", address, "0"]);
            talk(nc, address, "Listening on {*} {N}", None);
        }
    }

    #[test]
    fn talks_to_ncat() {
        for address in ADDRESSES {
            let ip: IpAddr = address.parse().unwrap();
            let port = ReservedPort::on(ip, Type::STREAM);
            let port = port.text();
            let ncat = peer("ncat", ["-lv", address, &port]);
            let ready = format!("Ncat: Listening on {address}:{port}");
            talk(ncat, address, &ready, Some(&port));
        }
    }

    #[test]
    fn talks_to_socat() {
        for (address, kind) in ADDRESSES.into_iter().zip(["TCP4", "TCP6"]) {
            let listen = format!("{kind}-LISTEN:0,bind={}", in_brackets(address));
            let socat = peer("socat", ["-dd", "STDIO", &listen]);
            talk(socat, address, "{*} listening on {*}:{N}", None);
        }
    }

    #[test]
    fn talks_to_python() {
        const PROGRAM: &str = "
import socket, sys
server = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
print('listening on', server.getsockname()[1], file=sys.stderr)
connection, _ = server.accept()
connection.sendall(sys.stdin.buffer.read())
connection.shutdown(socket.SHUT_WR)
while data := connection.recv(4096):
    sys.stdout.buffer.write(data)
";
        for address in ADDRESSES {
            let python = peer("python3", ["-u", "-c", PROGRAM, address]);
            talk(python, address, "listening on {N}", None);
        }
    }
}

/// A peer connects to our server, and has its greeting and its answer.
mod server {
    use super::*;

    /// A server on `address`, and its port.
    fn listen(address: &str) -> (Server, String) {
        let server = tcp_server(["-b", address]).listen();
        let port = server.port().to_string();
        (server, port)
    }

    fn talk(client: Option<Program>) {
        let Some(client) = client else {
            return;
        };
        client
            .stdin("Michael\nTracy\n")
            .stdout("Welcome!Hello, Michael!\nHello, Tracy!\n")
            .stderr("")
            .code(0)
            .run();
    }

    #[test]
    fn is_talked_to_by_nc() {
        for address in ADDRESSES {
            let (_server, port) = listen(address);
            talk(peer("nc", ["-N", address, &port]));
        }
    }

    #[test]
    fn is_talked_to_by_ncat() {
        for address in ADDRESSES {
            let (_server, port) = listen(address);
            talk(peer("ncat", [address, port.as_str()]));
        }
    }

    #[test]
    fn is_talked_to_by_socat() {
        for address in ADDRESSES {
            let (_server, port) = listen(address);
            let target = format!("TCP:{}:{port}", in_brackets(address));
            talk(peer("socat", ["STDIO", &target]));
        }
    }

    #[test]
    fn is_talked_to_by_python() {
        const PROGRAM: &str = "
import socket, sys
connection = socket.create_connection((sys.argv[1], sys.argv[2]))
connection.sendall(sys.stdin.buffer.read())
connection.shutdown(socket.SHUT_WR)
while data := connection.recv(4096):
    sys.stdout.buffer.write(data)
";
        for address in ADDRESSES {
            let (_server, port) = listen(address);
            talk(peer("python3", ["-c", PROGRAM, address, &port]));
        }
    }

    #[test]
    fn is_talked_to_by_our_client() {
        for address in ADDRESSES {
            let (_server, port) = listen(address);
            talk(Some(netkit(["tcp-client", address, &port])));
        }
    }
}

/// The same bytes out and back, through our client and our echo server.
mod bulk {
    use super::*;

    const MIB: usize = 1 << 20;

    fn echo(arguments: &[&str]) -> Server {
        let arguments = ["--service", "echo"].iter().chain(arguments);
        tcp_server(arguments.copied()).listen()
    }

    /// Both directions at once, `size` bytes each, with a stop of each program in the middle.
    fn both_ways(size: usize, stopping: bool) {
        // With a time limit reads and writes have timeouts, and are interrupted by a stop.
        let server = echo(&["--idle-timeout", "1m"]);
        let bytes = random_bytes(size);
        let client = netkit(["tcp-client", "--idle-timeout", "1m", &server.address()])
            .stdin(&bytes)
            .within(Duration::from_secs(120))
            .any_stdout()
            .start();
        if stopping {
            for (part, process) in [(1, &*server), (2, &client)] {
                client.wait_for_stdout(size / 3 * part);
                process.signal(Signal::STOP);
                process.wait_until_stopped();
                process.signal(Signal::CONT);
            }
        }
        assert!(client.finish().stdout == bytes);
        server.wait_for_line("Connection from {*} closed.");
    }

    #[test]
    fn bytes_come_back_as_they_went() {
        both_ways(32 * MIB, false);
    }

    #[test]
    fn bytes_come_back_as_they_went_though_both_programs_are_stopped() {
        both_ways(32 * MIB, true);
    }

    #[test]
    #[ignore = "takes long"]
    fn a_quarter_of_a_gibibyte_comes_back_as_it_went() {
        both_ways(256 * MIB, false);
        both_ways(256 * MIB, true);
    }

    #[test]
    fn bytes_from_a_file_come_back_into_a_file() {
        let folder = crate::harness::temporary_folder();
        let (input, output) = (folder.path().join("input"), folder.path().join("output"));
        let bytes = random_bytes(8 * MIB);
        std::fs::write(&input, &bytes).unwrap();
        let server = echo(&[]);
        netkit(["tcp-client", &server.address()])
            .stdin_from(std::fs::File::open(&input).unwrap())
            .stdout_to(std::fs::File::create(&output).unwrap())
            .run();
        assert!(std::fs::read(&output).unwrap() == bytes);
    }
}

/// The programs that every Python tutorial has, as they stand there.
mod tutorial {
    use super::*;
    use crate::harness::{Process, udp_server};

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

    /// A server on a free port, which it prints first.
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
        let mut client = netkit(["tcp-client", "127.0.0.1", &port])
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
}
