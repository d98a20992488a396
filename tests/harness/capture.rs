//! The output of a program, collected while the program runs.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::spawn;

/// The bytes of one stream so far. A thread reads on until the stream ends.
#[derive(Clone)]
pub struct Capture(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
pub struct State {
    pub bytes: Vec<u8>,
    pub ended: bool,
}

impl Capture {
    pub fn of(mut stream: impl Read + Send + 'static) -> Self {
        let capture = Self(Arc::default());
        let shared = capture.clone();
        spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = match stream.read(&mut buffer) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    // EIO: no process has the terminal open any more.
                    result => result.unwrap_or(0),
                };
                let (state, changed) = &*shared.0;
                let mut state = state.lock().unwrap();
                state.bytes.extend_from_slice(&buffer[..count]);
                state.ended = count == 0;
                changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        capture
    }

    /// For a stream that is not captured: it has ended without a byte.
    pub fn empty() -> Self {
        let capture = Self(Arc::default());
        capture.0.0.lock().unwrap().ended = true;
        capture
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().bytes.clone()
    }

    /// Waits until `look` finds something in the bytes so far, and looks again after every read.
    /// `None` if the stream ends or `deadline` passes first.
    pub fn wait<T>(&self, deadline: Instant, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = changed.wait_timeout(state, left).unwrap().0;
        }
    }
}
