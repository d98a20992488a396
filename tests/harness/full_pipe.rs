//! A pipe that nobody reads and that takes no more.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use super::DEADLINE;
use super::capture::Capture;

pub struct FullPipe {
    reader: File,
    writer: File,
    filling: usize,
}

/// Creates a named pipe that nobody has opened.
pub fn named_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

impl FullPipe {
    pub fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self::of(OwnedFd::from(reader).into(), OwnedFd::from(writer).into())
    }

    /// A named pipe, which this creates.
    pub fn named(path: &Path) -> Self {
        named_pipe(path);
        // Without a writer, opening it blocks.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = open(path, flags, Mode::empty()).unwrap();
        rustix::io::ioctl_fionbio(&reader, false).unwrap();
        let writer = File::options().write(true).open(path).unwrap();
        Self::of(reader.into(), writer)
    }

    fn of(reader: File, mut writer: File) -> Self {
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
    pub fn end(&self) -> File {
        self.writer.try_clone().unwrap()
    }

    /// Begins to read.
    pub fn read(self) -> Reading {
        Reading {
            capture: Capture::of(self.reader),
            writer: self.writer,
            filling: self.filling,
        }
    }
}

/// What comes through the pipe, without what filled it.
pub struct Reading {
    capture: Capture,
    /// A program may open a named pipe later. Until then it has a writer.
    writer: File,
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
        drop(self.writer);
        let end = Instant::now() + DEADLINE;
        let ended = self.capture.wait(end, |state| state.ended.then_some(()));
        ended.expect("the pipe should have been closed");
        let bytes = self.capture.bytes().split_off(self.filling);
        String::from_utf8(bytes).unwrap()
    }
}
