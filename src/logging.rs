//! Messages and log lines: on standard error, one line each, never mixed with data.

use std::fmt;
use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

#[derive(clap::Args, Default)]
#[command(next_help_heading = "Messages")]
pub struct LoggingArgs {
    /// Log with time, level and fields; twice: debug messages too
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log lines for people, or one JSON object a line
    #[arg(
        hide_short_help = true,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LoggingArgs {
    /// As if no option was given but perhaps `--log-format json`.
    pub fn for_usage_errors(json: bool) -> Self {
        let log_format = if json {
            LogFormat::Json
        } else {
            LogFormat::Text
        };
        Self {
            log_format,
            ..Self::default()
        }
    }

    pub fn is_verbose(&self) -> bool {
        self.verbose > 0
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// Sets up the log, once. A closed or full standard error is not an error: there is nowhere left to
/// say so.
pub fn init(args: &LoggingArgs) {
    let level = match (args.quiet, args.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0 | 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let colour = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .log_internal_errors(false);
    match (args.log_format, args.verbose) {
        (LogFormat::Json, _) => builder.json().flatten_event(true).init(),
        (LogFormat::Text, 0) => builder.event_format(Sentence).init(),
        (LogFormat::Text, _) => builder.compact().init(),
    }
    // The default hook prints several lines.
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("panic").escape_debug();
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        tracing::error!(thread, place, "internal error: {message}");
    }));
}

/// The bare sentence; what is not in the ordinary course of things starts with the program's name.
struct Sentence;

impl<S, N> FormatEvent<S, N> for Sentence
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if *event.metadata().level() <= Level::WARN {
            writer.write_str("netkit: ")?;
        }
        event.record(&mut Message(&mut writer));
        writeln!(writer)
    }
}

/// Writes the message of an event and none of its fields.
struct Message<'a, 'w>(&'a mut Writer<'w>);

impl tracing::field::Visit for Message<'_, '_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // An error here is a full disk behind standard error.
            let _ = write!(self.0, "{value:?}");
        }
    }
}
