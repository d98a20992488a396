//! Proxies of others, which a test starts, each on a free port of this machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Folder, Process, Program, ReservedPort, netkit, peer, temporary_folder};

/// A proxy that is ready.
pub struct Proxy {
    pub url: String,
    /// Whether it passes the end of a client's data on, and leaves the other direction open. Those that
    /// do not take it for a hang-up.
    pub passes_half_closes: bool,
    _process: Process,
    _port: ReservedPort,
    _folder: Folder,
    /// Of `ssh -D`.
    _server: Option<Sshd>,
}

/// All that are installed.
pub fn all() -> impl Iterator<Item = Proxy> {
    let each = [ncat, microsocks, tinyproxy, dante, ssh];
    each.into_iter().filter_map(|start| start())
}

/// An HTTP proxy. It listens on all addresses, whatever it is told.
pub fn ncat() -> Option<Proxy> {
    let port = ReservedPort::tcp();
    let arguments = format!("-v -l -k --proxy-type http 127.0.0.1 {}", port.text());
    let proxy = peer("ncat", arguments.split(' '))?.start();
    proxy.wait_for_line("Ncat: Listening on 0.0.0.0:{N}");
    Some(ready("http://", false, proxy, port, temporary_folder()))
}

/// SOCKS 5, with a password.
pub fn microsocks() -> Option<Proxy> {
    let port = ReservedPort::tcp();
    let arguments = format!("-i 127.0.0.1 -u me -P pw -p {}", port.text());
    let proxy = peer("microsocks", arguments.split(' '))?.start();
    let folder = temporary_folder();
    Some(ready("socks5h://me:pw@", false, proxy, port, folder))
}

/// HTTP.
fn tinyproxy() -> Option<Proxy> {
    let (port, folder) = (ReservedPort::tcp(), temporary_folder());
    let text = format!(
        "Port {}\nListen 127.0.0.1\nTimeout 60\nAllow 127.0.0.1\n",
        port.text()
    );
    let file = write(&folder, "conf", &text);
    let proxy = peer("tinyproxy", ["-d", "-c", &file])?.start();
    Some(ready("http://", false, proxy, port, folder))
}

/// SOCKS 4 and 5.
fn dante() -> Option<Proxy> {
    let (port, folder) = (ReservedPort::tcp(), temporary_folder());
    let text = format!(
        "logoutput: stderr\ninternal: 127.0.0.1 port = {}\nexternal: 127.0.0.1\n\
         clientmethod: none\nsocksmethod: none\n\
         client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n",
        port.text()
    );
    let file = write(&folder, "conf", &text);
    let pid = folder.path().join("pid").display().to_string();
    let proxy = peer("danted", ["-f", &file, "-p", &pid])?.start();
    Some(ready("socks4://", true, proxy, port, folder))
}

/// `ssh -D`, to a server of its own: SOCKS 4 and 5.
pub fn ssh() -> Option<Proxy> {
    let server = sshd()?;
    let (port, folder) = (ReservedPort::tcp(), temporary_folder());
    let forward = format!("127.0.0.1:{}", port.text());
    let ssh = server.client("ssh")?.args(["-N", "-D", &forward]);
    let ssh = ssh.args(["-p", &server.port(), &server.login()]).start();
    let proxy = ready("socks5h://", true, ssh, port, folder);
    Some(Proxy {
        _server: Some(server),
        ..proxy
    })
}

fn ready(
    scheme: &str,
    passes_half_closes: bool,
    process: Process,
    port: ReservedPort,
    folder: Folder,
) -> Proxy {
    let address = format!("127.0.0.1:{}", port.text());
    wait_for(&address);
    Proxy {
        url: format!("{scheme}{address}"),
        passes_half_closes,
        _process: process,
        _port: port,
        _folder: folder,
        _server: None,
    }
}

/// Waits until a program listens that does not say so.
pub fn wait_for(address: &str) {
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

/// Writes a file that every user may read. Returns its path.
pub fn write(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// An SSH server with keys of its own. As root it runs as `nobody`, since root would need a folder of the
/// system for it.
pub struct Sshd {
    port: ReservedPort,
    folder: Folder,
    user: String,
    _process: Process,
}

/// `None`: it is not installed.
pub fn sshd() -> Option<Sshd> {
    let (port, folder) = (ReservedPort::tcp(), temporary_folder());
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["host", "user"] {
        let file = path(name);
        peer("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &file])?
            .code(0)
            .run();
    }
    let text = format!(
        "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         StrictModes no\nUsePAM yes\nSubsystem sftp internal-sftp\n",
        port.text(),
        path("host"),
        path("user.pub")
    );
    let file = write(&folder, "conf", &text);
    let user = peer("id", ["-un"])?.code(0).run().stdout;
    let user = String::from_utf8(user).unwrap().trim_end().to_owned();
    let is_root = user == "root";
    let sshd = peer("sshd", [])?;
    let program = if is_root {
        // sshd accepts a key that others can read, if it is another user's.
        for (path, mode) in [(path(""), 0o755), (path("host"), 0o644)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let drop_root = "--reuid 65534 --regid 65534 --clear-groups";
        // sshd wants to be called by its full path.
        peer("setpriv", drop_root.split(' '))?.arg("/usr/sbin/sshd")
    } else {
        sshd
    };
    let process = program.args(["-D", "-e", "-f", &file]).start();
    process.wait_for_line("Server listening on 127.0.0.1 port {N}.{*}");
    Some(Sshd {
        port,
        folder,
        user: if is_root { "nobody".to_owned() } else { user },
        _process: process,
    })
}

impl Sshd {
    pub fn port(&self) -> String {
        self.port.text()
    }

    pub fn login(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    /// ssh or scp, which may log in here.
    pub fn client(&self, name: &str) -> Option<Program> {
        let options = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
                       -o BatchMode=yes -o IdentitiesOnly=yes -o ExitOnForwardFailure=yes";
        let key = self.folder.path().join("user").display().to_string();
        Some(peer(name, options.split_whitespace())?.args(["-i", &key]))
    }

    /// A folder into which its user may write.
    pub fn writable(&self) -> String {
        let path = self.folder.path().join("in");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        path.display().to_string()
    }
}
