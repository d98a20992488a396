//! A pseudo-terminal (pty(7)) on which a test types and reads.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::DEADLINE;
use super::capture::Capture;
use super::text::shown;

/// Shows bytes as they are written: no echo of what is typed, no added carriage returns.
/// Line editing is on, so that [`Terminal::END`] ends the input.
pub struct Terminal {
    keyboard: File,
    /// Keeps the screen alive between two programs.
    device: File,
    screen: Capture,
    seen: usize,
}

impl Terminal {
    /// Ctrl-D: at the start of a line it ends the input.
    pub const END: &str = "\x04";

    pub fn open() -> Self {
        let (keyboard, device) = open_pair();
        Self {
            screen: Capture::of(keyboard.try_clone().unwrap()),
            keyboard,
            device,
            seen: 0,
        }
    }

    /// The keyboard and the device of a terminal whose screen nobody reads: it takes a few kilobytes.
    pub fn unread() -> (File, File) {
        open_pair()
    }

    /// Tells programs how many columns they have.
    pub fn with_columns(self, columns: u16) -> Self {
        let mut size = tcgetwinsize(&self.device).unwrap();
        (size.ws_col, size.ws_row) = (columns, 24);
        tcsetwinsize(&self.device, size).unwrap();
        self
    }

    /// For a standard stream of a program.
    pub fn device(&self) -> File {
        self.device.try_clone().unwrap()
    }

    pub fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the next bytes on the screen, which must be `text`.
    #[track_caller]
    pub fn expect(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        let from = self.seen;
        self.screen.wait(Instant::now() + DEADLINE, |state| {
            (state.bytes.len() >= from + text.len()).then_some(())
        });
        let screen = self.screen.bytes();
        let end = screen.len().min(from + text.len());
        assert!(
            &screen[from..end] == text,
            "the terminal should show {}, not {}",
            shown(text),
            shown(&screen[from..])
        );
        self.seen = end;
    }

    /// Waits for the next line on the screen. Returns it.
    #[track_caller]
    pub fn expect_line(&mut self) -> String {
        let from = self.seen;
        let line = self.screen.wait(Instant::now() + DEADLINE, |state| {
            let end = state.bytes[from..].iter().position(|&byte| byte == b'\n')?;
            Some(state.bytes[from..from + end].to_vec())
        });
        let line = line.expect("the terminal should show a line");
        self.seen += line.len() + 1;
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Waits until `text` has been shown, anywhere.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let found = self.screen.wait(Instant::now() + DEADLINE, |state| {
            let mut places = state.bytes.windows(text.len());
            places.any(|bytes| bytes == text.as_bytes()).then_some(())
        });
        assert!(
            found.is_some(),
            "the terminal should show {text:?} in {}",
            shown(&self.screen.bytes())
        );
    }

    /// Asserts that nothing more is shown. Call it when the programs on the terminal have ended.
    #[track_caller]
    pub fn finish(self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "the terminal shows {} too", shown(&rest));
    }

    /// What is shown that no test has expected yet. Call it when the programs on the terminal have ended.
    pub fn rest(self) -> Vec<u8> {
        let Self {
            device,
            screen,
            seen,
            ..
        } = self;
        drop(device);
        screen.wait(Instant::now() + DEADLINE, |_| None::<()>);
        screen.bytes()[seen..].to_vec()
    }
}

fn open_pair() -> (File, File) {
    // Other tests start programs meanwhile: those must not keep this terminal open.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap())
        .open(Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())))
        .unwrap();
    let mut modes = tcgetattr(device.as_fd()).unwrap();
    modes.local_modes -= LocalModes::ECHO;
    modes.output_modes -= OutputModes::OPOST;
    tcsetattr(device.as_fd(), OptionalActions::Now, &modes).unwrap();
    (File::from(master), device)
}
