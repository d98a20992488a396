//! Runs programs and plays their peers, so that a test reads as a sequence of events.
//!
//! Nothing here sleeps or hangs. Every wait ends with its event, or fails the test after
//! [`DEADLINE`]. Every program is killed when its test ends.
//!
//! ```ignore
//! let peer = Peer::listen(|mut connection| {
//!     connection.expect("ping");
//!     connection.send("pong");
//! });
//! netkit(["tcp-client", peer.address()]).stdin("ping").stdout("pong").run();
//! ```

mod capture;
mod closing;
pub mod datagrams;
mod findings;
mod folder;
mod full_pipe;
#[cfg(target_os = "linux")]
pub mod namespace;
pub mod pcapng;
mod peer;
mod program;
mod server;
mod terminal;
mod text;
mod tools;

use std::io::Read;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub use datagrams::{closed_port, mailbox};
pub use findings::{check_changes, check_findings};
pub use folder::{Folder, temporary_folder};
pub use full_pipe::{FullPipe, named_pipe};
pub use peer::{Connection, Peer};
pub use program::{Finished, Process, Program, netkit, netkit_path, program};
pub use server::{Server, tcp_server, udp_server};
pub use terminal::Terminal;
pub use text::{bytes_of_dump, matches, random_bytes};
pub use tools::{ReservedPort, full_pipe, peer, python_udp_server, ss, udp_clients, udp_echoes};

/// How long an event may take, such as the end of a program. It is far more than any needs, so that a
/// slow machine fails no test.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What a user is told when something is escaped on a terminal for the first time.
pub const ESCAPED: &str =
    "Control characters are shown as \\x1b; --raw prints them as they came.\n";

/// One thread lets the event happen, another waits for it.
pub fn event() -> (Trigger, Event) {
    let (sender, receiver) = mpsc::channel();
    (Trigger(sender), Event(receiver))
}

#[derive(Clone)]
pub struct Trigger(mpsc::Sender<()>);

impl Trigger {
    /// The waiting thread may have ended.
    pub fn happen(&self) {
        let _ = self.0.send(());
    }
}

pub struct Event(mpsc::Receiver<()>);

impl Event {
    #[track_caller]
    pub fn wait(&self) {
        self.0
            .recv_timeout(DEADLINE)
            .expect("the awaited event did not happen");
    }
}

/// Reads `stream` to its end, which must come within [`DEADLINE`].
#[track_caller]
pub fn read_all(stream: impl Read + Send + 'static) -> Vec<u8> {
    let capture = capture::Capture::of(stream);
    let end = Instant::now() + DEADLINE;
    let ended = capture.wait(end, |state| state.ended.then_some(()));
    ended.expect("the stream should have ended");
    capture.bytes()
}

/// Starts a thread with the name of its test, so that a failure is shown under that test.
pub fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let name = thread::current().name().unwrap_or("test").to_owned();
    thread::Builder::new().name(name).spawn(work).unwrap()
}
