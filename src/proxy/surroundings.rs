//! What the environment says about proxies: `ALL_PROXY`, `NO_PROXY`, `NETKIT_PROXY_AUTH`.

use std::env;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;

use ipnet::IpNet;

use super::hop::Credentials;
use crate::net::address::HostPort;

/// The credentials of `NETKIT_PROXY_AUTH`.
pub fn credentials() -> Option<Credentials> {
    let value = env::var_os("NETKIT_PROXY_AUTH")?;
    (!value.is_empty()).then(|| Credentials::read(value.as_bytes()))
}

/// The value of a variable: its lower case is read before its upper case. An empty one is none.
pub fn variable(upper: &str) -> Option<String> {
    [upper.to_lowercase(), upper.to_owned()]
        .into_iter()
        .filter_map(env::var_os)
        .map(|value| value.to_string_lossy().into_owned())
        .find(|value| !value.is_empty())
}

/// Whether `list`, the value of `NO_PROXY`, names the host of `target`.
pub fn excludes(list: &str, target: &HostPort) -> bool {
    let host = target.name().trim_end_matches('.').to_ascii_lowercase();
    let ip = host.split('%').next().unwrap_or_default().parse::<IpAddr>();
    list.split([',', ' ']).any(|entry| {
        let entry = entry.trim().trim_matches(['[', ']']);
        let name = entry.trim_start_matches('.').trim_end_matches('.');
        let name = name.to_ascii_lowercase();
        match ip {
            _ if entry == "*" => true,
            _ if name.is_empty() => false,
            Ok(ip) => {
                let ip = ip.to_canonical();
                let network = entry.parse::<IpNet>();
                let one = entry.parse::<IpAddr>();
                network.is_ok_and(|network| network.contains(&ip)) || one.is_ok_and(|one| one == ip)
            }
            Err(_) => {
                let above = host.strip_suffix(&name);
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_names_hosts_what_is_below_them_addresses_and_networks() {
        for (list, target, expected) in [
            ("*", "a:1", true),
            ("example.com", "example.com:1", true),
            ("example.com", "db.EXAMPLE.com:1", true),
            (".example.com", "example.com:1", true),
            ("example.com", "notexample.com:1", false),
            ("com.", "example.com.:1", true),
            ("a, b ,c", "b:1", true),
            ("10.0.0.0/8", "10.1.2.3:1", true),
            ("10.0.0.0/8", "11.1.2.3:1", false),
            ("10.0.0.1", "10.0.0.1:1", true),
            ("0.0.1", "10.0.0.1:1", false),
            ("[::1],fe80::/10", "[fe80::1%lo]:1", true),
            ("::1", "[::1]:1", true),
            ("localhost", ":1", true),
            ("", "a:1", false),
            (",.,", "a:1", false),
        ] {
            assert_eq!(
                excludes(list, &target.parse().unwrap()),
                expected,
                "{list} {target}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_list_is_read_without_a_panic(list in "[0-9a-z.:/*, \\[\\]%-]{0,40}|\\PC{0,20}") {
            for target in ["a.example:1", "10.0.0.1:1", "[fe80::1%lo]:1"] {
                let target = target.parse().unwrap();
                let listed = excludes(&list, &target);
                // More names in a list exclude no less.
                let longer = format!("x,{list},y");
                prop_assert!(!listed || excludes(&longer, &target));
            }
        }
    }
}
