//! HTTP CONNECT (RFC 9110, section 9.3.6): the request, and its answer.

use super::hop::Credentials;
use super::route::Point;
use super::tunnel::{Expect, Refusal, Turn};
use crate::escape::{base64, quoted};

pub fn request(point: &Point, credentials: Option<&Credentials>) -> Turn {
    let mut request = format!("CONNECT {point} HTTP/1.1\r\nHost: {point}\r\n");
    if let Some(Credentials { user, password }) = credentials {
        // RFC 7617, section 2.
        let pair = [user, &b":"[..], password].concat();
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(&base64(&pair));
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    Turn::new(request.into_bytes(), Expect::Head)
}

/// Reads the head of an answer. Its fields mean nothing: a tunnel has no body.
pub fn answer(head: &[u8], had_credentials: bool) -> Result<Turn, Refusal> {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let code = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', code @ ..] => match code {
            [a, b, c] | [a, b, c, b' ', ..]
                if [a, b, c].iter().all(|byte| byte.is_ascii_digit()) =>
            {
                [*a, *b, *c]
            }
            _ => return Err(Refusal::no_proxy("HTTP")),
        },
        _ => return Err(Refusal::no_proxy("HTTP")),
    };
    match &code {
        b"101" => Err(Refusal::no_proxy("HTTP")),
        // An interim answer (RFC 9110, section 15.2): another follows.
        [b'1', ..] => Ok(Turn::new(Vec::new(), Expect::Head)),
        [b'2', ..] => Ok(Turn::DONE),
        b"407" if had_credentials => {
            Err(Refusal::of_credentials("the proxy refuses the credentials"))
        }
        b"407" => Err(Refusal::of_credentials("the proxy wants credentials")),
        _ => {
            let status = line
                .splitn(2, |byte| *byte == b' ')
                .nth(1)
                .unwrap_or_default();
            Err(Refusal::says(quoted(status)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_names_the_target_and_who_asks() {
        let point = Point::of(&"[::1]:443".parse().unwrap());
        let credentials = Credentials::read(b"me:pw");
        let request = request(&point, Some(&credentials));
        assert_eq!(
            String::from_utf8(request.send).unwrap(),
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n"
        );
    }

    #[test]
    fn the_status_says_whether_it_worked() {
        let why = |head: &str, login| answer(head.as_bytes(), login).err().map(|it| it.why);
        for head in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 299\n\n",
            "HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n",
        ] {
            assert_eq!(why(head, false), None, "{head}");
        }
        let says = |text: &str| Some(text.to_owned());
        assert_eq!(
            why("HTTP/1.1 403 No \x1b[m\r\n\r\n", false),
            says("the proxy says \"403 No \\x1b[m\"")
        );
        assert!(answer(b"HTTP/1.1 407 Auth\r\n\r\n", true).is_err_and(|it| it.is_final));
        for head in [
            "SSH-2.0-x\n\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "\r\n\r\n",
            "",
        ] {
            let error = says("it does not answer as an HTTP proxy");
            assert_eq!(why(head, false), error, "{head}");
        }
    }

    proptest! {
        #[test]
        fn any_head_is_answered_without_a_panic(head in proptest::collection::vec(0_u8.., 0..60)) {
            let _ = answer(&head, false);
            let _ = answer(&[b"HTTP/1.1 ", &head[..]].concat(), true);
        }
    }
}
