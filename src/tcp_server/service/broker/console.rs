//! The server's own user as a member: standard input goes to all, and a terminal shows a chat.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::messages::{Messages, READ};
use super::{Broker, Kind, Message, RETRY, SERVER};
use crate::exit::{Exit, Failure};
use crate::tcp_server::ended::Ended;
use crate::terminal::is_in_foreground;
use crate::wait::{Deadline, IN, pause, wait_for};
use crate::{input, memory, output};

/// Starts a thread that sends standard input to all members. It ends with the input.
pub fn start(broker: Arc<Broker>) -> io::Result<()> {
    let run = move || {
        if let Err(failure) = send_input(&broker) {
            tracing::warn!("{failure}");
        }
    };
    let thread = thread::Builder::new().name("input".to_owned());
    thread.spawn(run).map(drop)
}

/// Reads only while there is a member: what is said to nobody would be lost.
fn send_input(broker: &Broker) -> Result<(), Failure> {
    let mut messages = Messages::new(broker.kind, "server".to_owned());
    let mut buffer = memory::zeroed(READ)?;
    loop {
        broker.wait_for_a_member();
        wait_for_input()?;
        let Some(count) = input::read(&mut buffer)? else {
            continue;
        };
        let message = messages
            .push(&buffer[..count])
            .map_err(|ended| unsendable(&ended))?;
        let mut delivery = (!message.is_empty()).then(|| broker.message(message, SERVER));
        while let Some(rest) = delivery {
            delivery = broker.deliver(rest, Instant::now());
            if delivery.is_some() {
                pause(Deadline::after(RETRY))?;
            }
        }
        if count == 0 {
            return Ok(());
        }
    }
}

fn unsendable(ended: &Ended) -> Failure {
    let name = input::NAME;
    Failure::new(
        Exit::Local,
        format!("could not send more of {name}: {ended}"),
    )
}

/// Blocks until standard input has something, and this process may read it.
fn wait_for_input() -> io::Result<()> {
    /// No event tells that this process has come to the foreground.
    const LOOK_AGAIN: Duration = Duration::from_millis(500);
    let stdin = io::stdin();
    loop {
        while !wait_for(stdin.as_fd(), IN, Deadline::NEVER)? {}
        if is_in_foreground(&stdin) {
            return Ok(());
        }
        pause(Deadline::after(LOOK_AGAIN))?;
    }
}

/// A terminal that shows a chat. A thread writes to it: no member waits for it.
pub struct Screen {
    lines: SyncSender<Message>,
    unshown: Arc<AtomicU64>,
}

impl Screen {
    /// `None` if this is no chat, or standard output is no terminal.
    pub fn open(kind: Kind) -> io::Result<Option<Self>> {
        /// So many messages may wait while the terminal takes nothing (Ctrl-S).
        const MOST: usize = 64;
        if kind != Kind::Chat || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let (lines, receiver) = sync_channel(MOST);
        let unshown = Arc::new(AtomicU64::new(0));
        let screen = Self {
            lines,
            unshown: Arc::clone(&unshown),
        };
        let thread = thread::Builder::new().name("screen".to_owned());
        thread.spawn(move || show_all(&receiver, &unshown))?;
        Ok(Some(screen))
    }

    /// Never blocks: a message for which there is no room is counted.
    pub fn show(&self, message: &Message) {
        if self.lines.try_send(Arc::clone(message)).is_err() {
            self.unshown.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes until the terminal is gone. The lines have been made harmless for the members already.
fn show_all(lines: &Receiver<Message>, unshown: &AtomicU64) {
    for line in lines {
        let mut written = output::write_once(&line);
        let count = unshown.swap(0, Ordering::Relaxed);
        if count > 0 {
            let note = format!("({count} messages were not shown)\n");
            written = written.and_then(|()| output::write_once(note.as_bytes()));
        }
        if written.is_err() {
            return;
        }
    }
}
