//! The HTTP request that netkit sends for a page.

use crate::net::address::HostPort;

/// A request for `path` (RFC 9112). The server is asked to close after its answer.
pub fn get(target: &HostPort, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        target.host_field()
    )
    .into_bytes()
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

    #[test]
    fn the_request_asks_for_the_end_of_the_connection() {
        let target = "www.sina.com.cn:80".parse().unwrap();
        let request = get(&target, "/");
        assert_eq!(
            request,
            b"GET / HTTP/1.1\r\nHost: www.sina.com.cn\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_path_cannot_end_its_line() {
        assert!(check_path("/a/b?c=%20#d").is_ok());
        for path in ["", "a", "/a b", "/a\r\nX: y", "/ä", "*"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }
}
