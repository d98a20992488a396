//! Other people's programs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use socket2::{Domain, Socket, Type};

use super::program::{Program, program};

/// A real peer, of which nothing is expected. `None`, after saying so, where it is not installed;
/// but with `NETKIT_REQUIRE_PEERS=1` that fails the test. `nc` is OpenBSD's.
#[track_caller]
pub fn peer<'a>(name: &str, arguments: impl IntoIterator<Item = &'a str>) -> Option<Program> {
    let found = find(name).filter(|_| name != "nc" || is_openbsd());
    if found.is_none() {
        let required = std::env::var_os("NETKIT_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
    }
    let program = program(found?, arguments);
    Some(program.any_stdout().any_stderr().any_code())
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn is_openbsd() -> bool {
    let help = program("nc", ["-h"]).any_stdout().any_stderr().any_code();
    help.run().stderr.contains("OpenBSD")
}

/// A free port that nobody is given by chance while this lives, for programs that cannot take one
/// by themselves. They have to set `SO_REUSEADDR`, as servers do.
pub struct ReservedPort {
    socket: Socket,
}

impl ReservedPort {
    pub fn on(ip: IpAddr, kind: Type) -> Self {
        let address = SocketAddr::new(ip, 0);
        let socket = Socket::new(Domain::for_address(address), kind, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        Self { socket }
    }

    pub fn number(&self) -> u16 {
        let address = self.socket.local_addr().unwrap();
        address.as_socket().unwrap().port()
    }

    pub fn text(&self) -> String {
        self.number().to_string()
    }
}
