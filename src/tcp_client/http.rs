//! The HTTP request that netkit sends for a page.

use std::fmt::Display;

use crate::net::address::HostPort;
use crate::net::target::Address;
use crate::relay::Traffic;

/// The port of a URL that names none.
pub fn default_port(has_tls: bool) -> u16 {
    if has_tls { 443 } else { 80 }
}

/// A request for `path` (RFC 9112). The server is asked to close after its answer.
pub fn get(target: &Address, path: &str, has_tls: bool) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        target.host_field(default_port(has_tls))
    )
    .into_bytes()
}

/// Says what helps if `peer` has ended without a byte after a request and our end of input.
pub fn explain_silence(traffic: &Traffic, peer: impl Display) {
    let is_silent = traffic.peer_ended && traffic.received == 0;
    if is_silent && traffic.half_closed && is_request(&traffic.head) {
        tracing::warn!(
            "{peer} ended without an answer; some proxies take the end of input for a hang-up: \
             try --no-shutdown"
        );
    }
}

/// Whether `head` is the beginning of an HTTP/1 request line (RFC 9112, section 3).
fn is_request(head: &[u8]) -> bool {
    const METHODS: [&str; 9] = [
        "GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "CONNECT ", "OPTIONS ", "TRACE ", "PATCH ",
    ];
    METHODS
        .iter()
        .any(|method| head.starts_with(method.as_bytes()))
}

pub fn is_url(word: &str) -> bool {
    word.contains("://")
}

/// Whether `url` asks for TLS (RFC 9110, section 4.2.2).
pub fn is_https(url: &str) -> bool {
    after_scheme(url, "https").is_some()
}

/// What follows `scheme://` in `url`. Capital letters are the same (RFC 3986, section 3.1).
fn after_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (typed, rest) = url.split_once("://")?;
    typed.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// The target and the path of an `http://` or `https://` URL (RFC 9110, section 4.2). A query is part
/// of the path.
pub fn read_url(url: &str) -> Result<(HostPort, String), String> {
    let rest = after_scheme(url, "http");
    let Some(rest) = rest.or_else(|| after_scheme(url, "https")) else {
        return Err(format!(
            "'{url}' is a URL that is not http:// or https://; write HOST:PORT"
        ));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(format!("'{url}' names a user, whom netkit does not log in"));
    }
    if path.contains('#') {
        return Err(format!(
            "'{url}' has a fragment ('#'), which no server is sent"
        ));
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(host, _)| {
        // The colons of an IPv6 address are within brackets.
        !host.starts_with('[') || host.ends_with(']')
    });
    let port = match (has_port, is_https(url)) {
        (true, _) => "",
        (false, true) => ":443",
        (false, false) => ":80",
    };
    let target = format!("{authority}{port}");
    // An empty host is this machine only where it is typed as an address.
    if target.starts_with(':') {
        return Err(format!("'{url}' names no host"));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((target.parse()?, format!("{slash}{path}")))
}

/// Fails unless `path` is visible ASCII that begins with `/`. Such a path cannot end the request line.
pub fn check_path(path: &str) -> Result<(), String> {
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(format!(
        "'{path}' is not a path; write one that starts with '/', and %20 for a space"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_request_asks_for_the_end_of_the_connection() {
        let target = "www.sina.com.cn:80".parse().unwrap();
        let request = get(&target, "/", false);
        assert_eq!(
            request,
            b"GET / HTTP/1.1\r\nHost: www.sina.com.cn\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_url_is_a_target_and_a_path() {
        let cases = [
            ("http://a", "a:80", "/"),
            ("http://a/", "a:80", "/"),
            ("http://a:8080/b/c?d=e", "a:8080", "/b/c?d=e"),
            ("http://a?d", "a:80", "/?d"),
            ("http://[::1]/x", "[::1]:80", "/x"),
            ("http://[::1]:81", "[::1]:81", "/"),
            ("https://a", "a:443", "/"),
            ("https://a:80/b", "a:80", "/b"),
            ("HTTP://a/B", "a:80", "/B"),
            ("Https://a", "a:443", "/"),
        ];
        for (url, target, path) in cases {
            let (read, read_path) = read_url(url).unwrap();
            assert_eq!(
                (read.to_string(), &read_path[..]),
                (target.to_owned(), path)
            );
        }
        for url in [
            "http://",
            "http://:80/",
            "http://u@a/",
            "http://u:p@a",
            "http://a/#b",
            "ftp://a",
            "http://a b/",
            "http://a:0",
            "http://a:x/",
            "http://::1/",
        ] {
            assert!(read_url(url).is_err(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_url_is_answered_without_a_panic(rest in "([:/?#@\\[\\]a1.]|\\PC)*") {
            let _ = read_url(&format!("http://{rest}"));
        }

        /// The server reads one request with one `Host`, whatever the URL is.
        #[test]
        fn a_url_cannot_add_a_line_to_the_request(host in "([a.:\\[\\]\u{0}-\u{20}\u{7f}]|\\PC){1,9}", path in "([/a?\r\n\t ]|\\PC){0,9}") {
            if let Ok((target, path)) = read_url(&format!("http://{host}/{path}"))
                && check_path(&path).is_ok()
            {
                let request = String::from_utf8(get(&target.into(), &path, false)).unwrap();
                let lines: Vec<_> = request.split("\r\n").collect();
                prop_assert_eq!(lines.len(), 5);
                prop_assert!(!lines.concat().contains(char::is_control), "{}", request.escape_debug());
            }
        }
    }

    #[test]
    fn a_request_is_known_by_its_method() {
        assert!(is_request(b"GET / HT"));
        assert!(is_request(b"OPTIONS "));
        for head in [
            &b"GETTING "[..],
            b"get / ht",
            b"GET\0\0\0\0\0",
            b"\0\0\0\0\0\0\0\0",
        ] {
            assert!(!is_request(head));
        }
    }

    #[test]
    fn a_path_cannot_end_its_line() {
        assert!(check_path("/a/b?c=%20#d").is_ok());
        for path in ["", "a", "/a b", "/a\r\nX: y", "/ä", "*"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }
}
