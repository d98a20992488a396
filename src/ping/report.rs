//! Prints a ping: lines as ping(8)'s, dots, or events.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use rustix::io::Errno;

use crate::exit::{Failure, cause};
use crate::json::{Event, milliseconds};
use crate::output;
use crate::ping::statistics::Statistics;
use crate::ping::{Answer, Kind, text};

pub struct Report {
    pub style: Style,
    /// Print only the first line, the statistics and what `-O` asks for.
    pub quiet: bool,
    /// The name of a probe's number: `udp_seq`.
    pub label: &'static str,
    /// Print percentiles too.
    pub verbose: bool,
    /// Print the time of each line.
    pub timestamps: bool,
    /// As typed: `HOST:PORT`, `[IPv6]:PORT`.
    pub target: String,
    pub address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Lines,
    /// A dot for each probe. Its answer erases the dot.
    Dots,
    Events,
}

impl Report {
    /// Prints the first line. `size` is the size of a probe without headers, in bytes.
    pub fn start(
        &self,
        size: usize,
        transport_header: usize,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let ip = self.address.ip();
        let target = self.target.as_str();
        if self.style == Style::Events {
            return Event::new("start")
                .with("v", 1)
                .with("target", target)
                .with("address", ip.to_string())
                .with("port", self.address.port())
                .with("size_bytes", size)
                .with("timeout_ms", milliseconds(timeout))
                .print();
        }
        let whole = size + if ip.is_ipv4() { 20 } else { 40 } + transport_header;
        print(&format!(
            "PING {target} ({ip}) {size}({whole}) bytes of data.\n"
        ))
    }

    /// A probe is about to be sent.
    pub fn sending(&self) -> Result<(), Failure> {
        self.dot(".")
    }

    /// `source` has answered with `bytes`.
    pub fn answer(&self, answer: &Answer, bytes: usize, source: SocketAddr) -> Result<(), Failure> {
        let name = match answer.kind {
            Kind::Reply => "reply",
            Kind::Late => "late",
            Kind::Duplicate => "duplicate",
        };
        match self.style {
            _ if self.quiet => Ok(()),
            Style::Dots if answer.kind == Kind::Reply => self.dot("\u{8} \u{8}"),
            Style::Dots => Ok(()),
            Style::Lines => self.line(&text::reply(answer, bytes, &self.from(source), self.label)),
            Style::Events => self.event(
                Event::new(name)
                    .with("seq", answer.number)
                    .with("from", source.to_string())
                    .with("bytes", bytes)
                    .with("rtt_ms", milliseconds(answer.time)),
            ),
        }
    }

    /// The time limit of a probe has passed.
    pub fn lost(&self, number: u64) -> Result<(), Failure> {
        self.event(Event::new("lost").with("seq", number))
    }

    /// A probe is not answered, and the next is about to be sent. Printed also when quiet, as ping(8)
    /// does.
    pub fn missing(&self, number: u64) -> Result<(), Failure> {
        if self.style == Style::Events {
            return self.print_event(Event::new("missing").with("seq", number));
        }
        self.print_line(&format!("no answer yet for {}={number}", self.label))
    }

    /// The network said that a probe did not arrive.
    pub fn refused(&self, number: u64, error: &io::Error) -> Result<(), Failure> {
        let what = match Errno::from_io_error(error) {
            Some(Errno::CONNREFUSED) => "Destination Port Unreachable".to_owned(),
            Some(Errno::HOSTUNREACH) => "Destination Host Unreachable".to_owned(),
            Some(Errno::NETUNREACH) => "Destination Net Unreachable".to_owned(),
            _ => cause(error),
        };
        let from = self.address.ip();
        self.line(&format!("From {from} {}={number} {what}", self.label))?;
        self.failed(number, &cause(error))
    }

    /// A probe was not sent, or did not arrive. The caller has told people why.
    pub fn failed(&self, number: u64, message: &str) -> Result<(), Failure> {
        self.dot("\u{8}E")?;
        self.event(
            Event::new("error")
                .with("seq", number)
                .with("message", message),
        )
    }

    /// A datagram that answers no probe has arrived.
    pub fn unexpected(&self, received: &[u8]) -> Result<(), Failure> {
        let event = Event::new("unexpected").with("bytes", received.len());
        self.event(event.with_data(received))
    }

    /// The statistics of a run that goes on. For people they go to standard error.
    pub fn interim(&self, statistics: &Statistics) -> Result<(), Failure> {
        if self.style == Style::Events {
            return numbers(Event::new("interim"), statistics).print();
        }
        let mut stderr = io::stderr();
        // A terminal shows ^\ for the key of SIGQUIT: overwrite it.
        let start = if stderr.is_terminal() { "\r" } else { "" };
        // A closed standard error is not an error.
        let _ = stderr.write_all([start, &text::interim(statistics)].concat().as_bytes());
        Ok(())
    }

    /// The statistics at the end.
    pub fn summary(&self, statistics: &Statistics) -> Result<(), Failure> {
        if self.style == Style::Events {
            return numbers(Event::new("summary"), statistics).print();
        }
        let name = name(&self.target);
        print(&text::summary(statistics, &name, self.verbose))
    }

    /// The peer as ping(8) shows it: as typed, and its address if that is another text.
    fn from(&self, source: SocketAddr) -> String {
        if source != self.address {
            // One of a group.
            return source.to_string();
        }
        let target = &self.target;
        if *target == source.to_string() {
            target.clone()
        } else {
            format!("{target} ({})", source.ip())
        }
    }

    fn line(&self, line: &str) -> Result<(), Failure> {
        if self.quiet || self.style != Style::Lines {
            return Ok(());
        }
        self.print_line(line)
    }

    fn dot(&self, text: &str) -> Result<(), Failure> {
        if self.quiet || self.style != Style::Dots {
            return Ok(());
        }
        print(text)
    }

    fn event(&self, event: Event) -> Result<(), Failure> {
        if self.quiet || self.style != Style::Events {
            return Ok(());
        }
        self.print_event(event)
    }

    fn print_line(&self, line: &str) -> Result<(), Failure> {
        if self.timestamps {
            let time = since_epoch();
            let (seconds, micros) = (time.as_secs(), time.subsec_micros());
            return print(&format!("[{seconds}.{micros:06}] {line}\n"));
        }
        print(&format!("{line}\n"))
    }

    fn print_event(&self, event: Event) -> Result<(), Failure> {
        if self.timestamps {
            return event.with("unix_s", since_epoch().as_secs_f64()).print();
        }
        event.print()
    }
}

/// The target in the line above the statistics. jc and pingparsing, which read this line, know only
/// addresses without brackets.
fn name(target: &str) -> String {
    target.replace('[', "").replace("]:", " ")
}

fn print(text: &str) -> Result<(), Failure> {
    output::write_once(text.as_bytes())
}

fn since_epoch() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

fn numbers(event: Event, statistics: &Statistics) -> Event {
    let times = &statistics.times;
    let rtt = |time: Duration| (!times.is_empty()).then(|| milliseconds(time));
    event
        .with("transmitted", statistics.transmitted)
        .with("received", statistics.received)
        .with("lost", statistics.lost())
        .with("loss_percent", statistics.loss_percent())
        .with("duplicates", statistics.duplicates)
        .with("errors", statistics.errors)
        .with("late", statistics.late)
        .with("time_ms", milliseconds(statistics.time))
        .with("rtt_min_ms", rtt(times.min))
        .with("rtt_avg_ms", rtt(times.mean()))
        .with("rtt_max_ms", rtt(times.max))
        .with("rtt_mdev_ms", rtt(times.mdev()))
        .with("rtt_p50_ms", rtt(times.percentile(50)))
        .with("rtt_p95_ms", rtt(times.percentile(95)))
        .with("rtt_p99_ms", rtt(times.percentile(99)))
        .with("jitter_ms", rtt(times.jitter()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use serde_json::Value;

    use super::*;

    /// What `program` makes of `text`; `None`, where it is not installed and need not be.
    fn parse(program: &str, argument: &str, text: &str) -> Option<Value> {
        let mut command = Command::new(program);
        let command = command.arg(argument).stdin(Stdio::piped());
        let mut child = match command.stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) if std::env::var_os("NETKIT_REQUIRE_PEERS").is_none() => {
                let _ = writeln!(io::stderr(), "skipped: {program}: {error}");
                return None;
            }
            Err(error) => panic!("{program}: {error}"),
        };
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Some(serde_json::from_slice(&output.stdout).unwrap())
    }

    #[test]
    fn the_summary_names_an_ipv6_target_without_brackets() {
        assert_eq!(name("[fe80::1%lo]:9999"), "fe80::1%lo 9999");
        assert_eq!(name("localhost:9999"), "localhost:9999");
    }

    #[test]
    fn jc_reads_the_same_numbers_from_the_text_as_stand_in_the_event() {
        let names = [
            ("packets_transmitted", "transmitted"),
            ("packets_received", "received"),
            ("packet_loss_percent", "loss_percent"),
            ("duplicates", "duplicates"),
            ("errors", "errors"),
            ("round_trip_ms_min", "rtt_min_ms"),
            ("round_trip_ms_avg", "rtt_avg_ms"),
            ("round_trip_ms_max", "rtt_max_ms"),
            ("round_trip_ms_stddev", "rtt_mdev_ms"),
        ];
        compare("jc", "--ping", &names);
    }

    #[test]
    fn pingparsing_reads_the_same_numbers_from_the_text_as_stand_in_the_event() {
        let names = [
            ("packet_transmit", "transmitted"),
            ("packet_receive", "received"),
            ("packet_loss_count", "lost"),
            ("packet_loss_rate", "loss_percent"),
            ("packet_duplicate_count", "duplicates"),
            ("rtt_min", "rtt_min_ms"),
            ("rtt_avg", "rtt_avg_ms"),
            ("rtt_max", "rtt_max_ms"),
            ("rtt_mdev", "rtt_mdev_ms"),
        ];
        compare("pingparsing", "-", &names);
    }

    /// `program` has to find in the text what stands in the event; `names` are its own and ours.
    #[track_caller]
    fn compare(program: &str, argument: &str, names: &[(&str, &str)]) {
        for target in ["127.0.0.1:9999", "[::1]:9999", "localhost:9999"] {
            for (received, duplicates, errors, late) in [
                (7, 0, 0, 0),
                (5, 2, 0, 1),
                (4, 0, 3, 0),
                (2, 1, 1, 4),
                (0, 0, 2, 0),
            ] {
                let mut statistics = Statistics {
                    transmitted: 7,
                    received,
                    duplicates,
                    errors,
                    late,
                    pipe: errors + late,
                    is_adaptive: duplicates > 0,
                    time: Duration::from_millis(6012),
                    ..Statistics::default()
                };
                for number in 0..received {
                    let time = Duration::from_nanos(38_765 + number * number * 12_345_678);
                    statistics.times.add(time);
                }
                let event = numbers(Event::new("summary"), &statistics).line();
                let event: Value = serde_json::from_str(&event).unwrap();
                let text = format!(
                    "PING {target} (127.0.0.1) 56(84) bytes of data.\n{}",
                    text::summary(&statistics, &name(target), false)
                );
                let Some(parsed) = parse(program, argument, &text) else {
                    return;
                };
                for (theirs, ours) in names {
                    let (read, written) = (parsed[theirs].as_f64(), event[ours].as_f64());
                    // What does not occur is left out. Six digits of a percentage are shown.
                    let (read, written) = (read.unwrap_or(0.0), written.unwrap_or(0.0));
                    assert!((read - written).abs() < 1e-4, "{ours}: {parsed}\n{text}");
                }
            }
        }
    }
}
