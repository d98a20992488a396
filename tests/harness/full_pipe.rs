//! A pipe that nobody reads and that takes no more.

use std::io::{PipeReader, PipeWriter, Write as _};
use std::time::Instant;

use super::DEADLINE;
use super::capture::Capture;

pub struct FullPipe {
    reader: PipeReader,
    writer: PipeWriter,
    filling: usize,
}

impl FullPipe {
    pub fn new() -> Self {
        let (reader, mut writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut filling = 0;
        // The last bytes are single ones: poll(2) finds room for a whole page only.
        for piece in [4096, 1] {
            while let Ok(count) = writer.write(&vec![b'-'; piece]) {
                filling += count;
            }
        }
        // This flag is the program's too.
        rustix::io::ioctl_fionbio(&writer, false).unwrap();
        Self {
            reader,
            writer,
            filling,
        }
    }

    /// The end that a program writes to.
    pub fn end(&self) -> PipeWriter {
        self.writer.try_clone().unwrap()
    }

    /// Begins to read.
    pub fn read(self) -> Reading {
        Reading {
            capture: Capture::of(self.reader),
            filling: self.filling,
        }
    }
}

/// What comes through the pipe, without what filled it.
pub struct Reading {
    capture: Capture,
    filling: usize,
}

impl Reading {
    /// Waits until `text` has come.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let found = self.capture.wait(Instant::now() + DEADLINE, |state| {
            let come = String::from_utf8_lossy(&state.bytes);
            come.contains(text).then_some(())
        });
        let come = self.capture.bytes();
        assert!(found.is_some(), "{}", String::from_utf8_lossy(&come));
    }

    /// Waits until no program has the pipe open any more. Returns all that has come.
    #[track_caller]
    pub fn finish(self) -> String {
        let end = Instant::now() + DEADLINE;
        let ended = self.capture.wait(end, |state| state.ended.then_some(()));
        ended.expect("the pipe should have been closed");
        let bytes = self.capture.bytes().split_off(self.filling);
        String::from_utf8(bytes).unwrap()
    }
}
