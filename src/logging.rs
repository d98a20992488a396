//! Messages and log lines: one line each, on standard error, never among the data.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::set_global_default;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::escape::{self, OneLine};
use crate::stderr;
use crate::terminal::has_colour;

#[derive(clap::Args, Default)]
#[command(next_help_heading = "Messages")]
pub struct LoggingArgs {
    /// Say more (with time and details); -vv: debug
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log text for people, or JSON, one object per line
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Sets up the log; only the first call does. No thread ever waits for a line: see [`stderr`].
pub fn init(args: &LoggingArgs) {
    let level = match (args.quiet, args.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0 | 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    IS_JSON.store(args.log_format == LogFormat::Json, Ordering::Relaxed);
    let colour = has_colour(&io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| Line)
        .with_ansi(colour)
        .with_target(false)
        .log_internal_errors(false);
    // The only error is that the log is set up already.
    let _ = match (args.log_format, args.verbose) {
        (LogFormat::Json, _) => {
            let builder = builder.json().flatten_event(true);
            set_global_default(builder.map_event_format(EscapedJson).finish())
        }
        (LogFormat::Text, 0) => set_global_default(Sentences(level)),
        (LogFormat::Text, _) => {
            let fields = debug_fn(write_field).delimited(" ");
            set_global_default(builder.compact().fmt_fields(fields).finish())
        }
    };
    // The default hook prints several lines.
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("panic");
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        tracing::error!(thread, place, "internal error: {message}");
    }));
}

/// Whether each line is an object of JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Whether log lines are JSON.
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Prints lines that the user has just asked for by a key or a signal: bare, or as an event.
pub fn print(lines: &str) {
    if is_json() {
        tracing::info!(event = "report", "{}", lines.trim_end());
        return;
    }
    // A terminal shows ^\ for the key of SIGQUIT: overwrite it.
    let start = if io::stderr().is_terminal() { "\r" } else { "" };
    stderr::write_line([start, lines].concat().as_bytes());
}

/// Where the other formats write: each event with one write.
struct Line;

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        stderr::write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the bare sentence; a warning or an error starts with the program's name. netkit has no
/// spans, so none is kept: the registry behind the other formats touches more memory than a short
/// session does.
struct Sentences(LevelFilter);

impl Subscriber for Sentences {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = String::with_capacity(128);
        if *event.metadata().level() <= Level::WARN {
            line.push_str("netkit: ");
        }
        event.record(&mut Message(&mut line));
        line.push('\n');
        stderr::write_line(line.as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Appends the message of an event, without its fields.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(OneLine(&mut *self.0), "{value:?}");
        }
    }
}

/// A field of an event on one line: peers, files and arguments may have put anything into it.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        let name = field.name();
        if writer.has_ansi_escapes() {
            write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?;
        } else {
            write!(writer, "{name}=")?;
        }
    }
    write!(OneLine(writer), "{value:?}")
}

/// Escapes what JSON allows to stand for itself and a terminal obeys.
struct EscapedJson<F>(F);

impl<S, N, F> FormatEvent<S, N> for EscapedJson<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&escape::json(line))
    }
}
