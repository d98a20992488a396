//! Ports by name: /etc/services, services(5).

use std::fs;

use crate::exit::cause;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// As in /etc/services.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

const PATH: &str = "/etc/services";

/// The port of the service `name`, or of an alias. Reads the file. The error says why there is none.
pub fn port(name: &str, protocol: Protocol) -> Result<u16, String> {
    let protocol = protocol.name();
    let bytes = fs::read(PATH);
    let bytes = bytes.map_err(|error| {
        let cause = cause(&error);
        format!("'{name}' is not a number, and could not be looked up in {PATH}: {cause}")
    })?;
    find(&String::from_utf8_lossy(&bytes), name, protocol).ok_or_else(|| {
        format!(
            "'{name}' is not a port; a port is a number from 1 to 65535, or a name of {PATH} for {protocol}"
        )
    })
}

/// Lines are `name port/protocol alias...`; `#` starts a comment.
fn find(services: &str, name: &str, protocol: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (official, place) = (words.next()?, words.next()?);
        let (port, of) = place.split_once('/')?;
        let is_named = of == protocol && (official == name || words.any(|alias| alias == name));
        let port = port.parse().ok().filter(|&port| port > 0);
        port.filter(|_| is_named)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_or_an_alias_is_found_for_its_protocol() {
        let services = "# http 1/tcp\nhttp\t80/tcp\tWWW www  # web\nhttp 81/udp\nsyslog 514/udp\n\
                        shell 514/tcp\nbad x/tcp\nzero 0/tcp\nftp-data 20/tcp";
        let cases = [
            ("http", "tcp", Some(80)),
            ("www", "tcp", Some(80)),
            ("www", "udp", None),
            ("http", "udp", Some(81)),
            ("syslog", "udp", Some(514)),
            ("syslog", "tcp", None),
            ("ftp-data", "tcp", Some(20)),
            ("web", "tcp", None),
            ("HTTP", "tcp", None),
            ("bad", "tcp", None),
            ("zero", "tcp", None),
        ];
        for (name, protocol, port) in cases {
            assert_eq!(find(services, name, protocol), port, "{name}/{protocol}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(file in "([a-z0-9#/ \\t\\n]|\\PC)*", name in "\\PC{0,4}") {
            if let Some(port) = find(&file, &name, "tcp") {
                prop_assert!(file.contains(&name) && port > 0);
            }
        }

        #[test]
        fn a_line_among_others_is_found(before in "([a-z0-9#/ \\t]|\\PC)*", port in 1_u16.., name in "[a-z]{1,9}-x") {
            let file = format!("{before}\n{name}\t{port}/udp # comment\n");
            prop_assert_eq!(find(&file, &name, "udp"), Some(port));
        }
    }
}
