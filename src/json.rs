//! JSON reports for programs: one object a line on standard output, `event` first, then the time.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use serde_json::Value;

use crate::escape;
use crate::units::ip;

/// One object. A field with a unit has it in its name (`rtt_ms`).
pub struct Event(String);

impl Event {
    /// With the time from 1970 until now in seconds, to the microsecond.
    pub fn new(name: &str) -> Self {
        let since = UNIX_EPOCH.elapsed().unwrap_or_default();
        let (seconds, micros) = (since.as_secs(), since.subsec_micros());
        let name = Value::from(name);
        Self(format!(
            "{{\"event\":{name},\"unix_s\":{seconds}.{micros:06}"
        ))
    }

    /// The first event of a run. `target` stands as typed.
    pub fn start(target: &str) -> Self {
        Self::new("start").with("v", 1).with("target", target)
    }

    /// Adds a field: a number, a text or null.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        let _ = write!(self.0, ",{}:{}", Value::from(key), value.into());
        self
    }

    /// Adds a socket address: `address`, which may have a zone, and `port`.
    pub fn with_address(self, address: &SocketAddr) -> Self {
        self.with("address", ip(address))
            .with("port", address.port())
    }

    /// Adds what a peer sent: as `text` if it is UTF-8, else as `hex`.
    pub fn with_data(self, bytes: &[u8]) -> Self {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return self.with("text", text);
        }
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            let _ = write!(hex, "{byte:02x}");
        }
        self.with("hex", hex)
    }

    pub fn line(mut self) -> String {
        self.0.push_str("}\n");
        escape::json(self.0)
    }
}

/// Milliseconds, rounded to the microsecond as ping(8) prints them.
pub fn milliseconds(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_is_one_object_in_order() {
        let event = Event::new("open")
            .with("v", 1)
            .with("rtt_ms", 0.143)
            .with("host", "a\"\n\u{1b}")
            .with_address(&"[fe80::1%2]:7".parse().unwrap());
        let line = event.with_data(b"\xff\0").line();
        let (event, rest) = line.trim_end().split_once(",\"v\"").unwrap();
        let time = event.strip_prefix("{\"event\":\"open\",\"unix_s\":");
        assert!(time.unwrap().parse::<f64>().unwrap() > 1.7e9, "{event}");
        assert_eq!(
            rest,
            ":1,\"rtt_ms\":0.143,\"host\":\"a\\\"\\n\\u001b\",\"address\":\"fe80::1%2\",\"port\":7,\
             \"hex\":\"ff00\"}"
        );
    }

    proptest! {
        #[test]
        fn what_a_peer_sent_can_be_read_back(bytes in prop_oneof![any::<Vec<u8>>(), "\\PC*|[\0-\u{a0}\u{2020}-\u{2070}]*".prop_map(String::into_bytes)]) {
            let line = Event::new("x").with_data(&bytes).line();
            prop_assert_eq!(line.matches('\n').count(), 1);
            let event: Value = serde_json::from_str(&line).unwrap();
            let back = match (&event["text"], &event["hex"]) {
                (Value::String(text), Value::Null) => text.clone().into_bytes(),
                (Value::Null, Value::String(hex)) => {
                    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
                    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
                    pairs.iter().map(|pair| byte(pair.as_slice())).collect()
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(back, bytes);
        }
    }
}
