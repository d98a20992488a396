//! The options `-x`, `--record` and `--append`, and the files that they open.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use clap::builder::{PathBufValueParser, TypedValueParser};

use super::place::{Place, TapFile};
use super::{Form, Taps, capture};
use crate::exit::{Exit, Failure, OrFail as _};
use crate::net::address::HostPort;
use crate::stderr::Dumps;

#[derive(Clone, Debug, clap::Args)]
pub struct TapArgs {
    /// Hex-dump traffic to FILE or standard error
    ///
    /// Each line has the direction, the time in UTC, the offset and 16 bytes.
    #[arg(short = 'x', long, value_name = "FILE", num_args = 0..=1, value_parser = file())]
    #[expect(clippy::option_option, reason = "absent, without a file, with a file")]
    pub hex_dump: Option<Option<PathBuf>>,
    /// Save traffic, both directions, to FILE
    ///
    /// The bytes are as they passed. A server that serves several peers at once writes a line with
    /// number, direction, time and length before each piece.
    ///
    /// A FILE.pcapng is a capture that Wireshark opens: each connection a TCP stream and each datagram a
    /// UDP packet, with real addresses, times and ends. Of TLS it has the plaintext. A connection on a
    /// Unix socket goes from 192.0.2.1 to 192.0.2.2 port 1. While netkit runs the file cannot be rotated.
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub record: Option<PathBuf>,
    /// Keep what the files of -x and --record have
    ///
    /// A capture (.pcapng) gets a new section.
    #[arg(long)]
    append: bool,
}

impl TapArgs {
    /// Refuses what can be refused before anything is opened. Call it once the words of the command
    /// line are in their places.
    pub fn check(&self) -> Result<(), Failure> {
        let dump = self.hex_dump.as_ref().and_then(Option::as_ref);
        if let Some(path) = dump.filter(|path| is_address(path)) {
            return Err(Failure::usage(format!(
                "could not dump to {0}: it reads as HOST:PORT; a proxy is --proxy, and ./{0} is a \
                 file of that name",
                path.display()
            )));
        }
        if dump.is_some() && dump == self.record.as_ref() {
            return Err(one_file());
        }
        if let Some(path) = dump.filter(|path| capture::is_capture(path)) {
            let message = format!(
                "could not dump to {0}: --record {0} writes a capture",
                path.display()
            );
            return Err(Failure::usage(message));
        }
        if let Some(path) = self
            .record
            .as_ref()
            .filter(|path| capture::is_old_capture(path))
        {
            return Err(Failure::usage(format!(
                "could not record to {}: the capture that netkit writes is {}",
                path.display(),
                path.with_extension("pcapng").display()
            )));
        }
        let has_file = dump.is_some() || self.record.is_some();
        if self.append && !has_file {
            return Err(Failure::usage("--append needs -x FILE or --record"));
        }
        Ok(())
    }

    /// Opens the files, and empties them without `--append`. `None`: none are wanted.
    pub fn open(&self) -> Result<Option<Arc<Taps>>, Failure> {
        let open = |path: &PathBuf| {
            let file = TapFile::open(path);
            file.map(Place::File)
                .or_fail(Exit::Local, || format!("could not open {}", path.display()))
        };
        let dump = match &self.hex_dump {
            None => None,
            Some(None) => Some(Place::Stderr(Dumps::open()?)),
            Some(Some(path)) => Some(open(path)?),
        };
        let record = self.record.as_ref().map(open).transpose()?;
        if let (Some(dump), Some(record)) = (&dump, &record)
            && dump.is_same_as(record)
        {
            return Err(one_file());
        }
        let form = match &self.record {
            Some(path) if capture::is_capture(path) => Form::Capture,
            _ => Form::Raw,
        };
        if let (Some(path), Some(place), true, Form::Capture) =
            (&self.record, &record, self.append, form)
            && place.is_file()
        {
            let checked = File::open(path).and_then(|file| capture::check_appending(&file));
            checked.or_fail(Exit::Local, || {
                format!("could not append to {}", path.display())
            })?;
        }
        for place in dump.iter().chain(&record).filter(|_| !self.append) {
            place.empty().map_err(|error| place.failure(&error))?;
        }
        if let (Some(place), Form::Capture) = (&record, form) {
            let begun = place.begin_blocks(capture::section());
            begun.map_err(|error| place.failure(&error))?;
        }
        let is_wanted = dump.is_some() || record.is_some();
        let taps = Taps {
            stand_ins: AtomicU32::new(std::process::id()),
            dump: dump.map(|place| {
                let has_colours = place.has_colours();
                (place, has_colours)
            }),
            record: record.map(|place| (place, form)),
        };
        Ok(is_wanted.then(|| Arc::new(taps)))
    }
}

/// The name of a file. `-`, which elsewhere is standard output, is refused.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        if path.as_os_str() == "-" {
            let reason = "standard output is for what the peer sends; -x without FILE dumps to \
                standard error, and ./- is a file of that name";
            return Err(reason);
        }
        Ok(path)
    })
}

fn one_file() -> Failure {
    Failure::usage("could not write one file twice: -x and --record need different files")
}

/// Whether `path` reads as `HOST:PORT`: netcat's `-x` names a proxy.
fn is_address(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|path| path.parse::<HostPort>().is_ok())
}
