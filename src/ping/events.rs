//! The events that a ping prints for programs, one object a line.

use std::time::Duration;

use serde_json::{Value, json};

use super::clock::rfc3339;
use super::destination::Destination;
use super::findings::Findings;
use super::outages::{Change, Outage};
use super::report::News;
use crate::json::{Event, milliseconds};
use crate::ping::statistics::Statistics;
use crate::ping::{Answer, Arrival, Kind};
use crate::units::ip;

/// The first event. `size` is the size of a probe without headers, in bytes.
pub fn start(
    destination: &Destination,
    size: usize,
    timeout: Duration,
    news: Option<News>,
) -> String {
    let event = Event::start(&destination.target)
        .with("address", destination.ip())
        .with("port", destination.port)
        .with("size_bytes", size)
        .with("timeout_ms", milliseconds(timeout));
    with_news(event, news).line()
}

fn with_news(event: Event, news: Option<News>) -> Event {
    let fields = news.into_iter().flat_map(|news| news.fields);
    fields.fold(event, |event, (key, value)| event.with(key, value))
}

/// `port` is that of the target, where only the target's address is unknown.
pub fn answer(answer: &Answer, arrival: &Arrival, port: Option<u16>, news: Option<News>) -> String {
    let name = match answer.kind {
        Kind::Reply => "reply",
        Kind::Late => "late",
        Kind::Duplicate => "duplicate",
    };
    let mut event = Event::new(name)
        .with("seq", answer.number)
        .with("address", arrival.source.as_ref().map(ip))
        .with(
            "port",
            arrival.source.map_or(port, |source| Some(source.port())),
        )
        .with("size_bytes", arrival.size)
        .with("ttl", arrival.hop_limit)
        .with("rtt_ms", milliseconds(answer.time));
    if let Some(handshake) = arrival.handshake {
        event = event.with("handshake_ms", milliseconds(handshake));
    }
    with_news(event, news).line()
}

/// The time limit of a probe has passed.
pub fn lost(number: u64) -> String {
    Event::new("lost").with("seq", number).line()
}

/// A probe is not answered, and the next is about to be sent.
pub fn missing(number: u64) -> String {
    Event::new("missing").with("seq", number).line()
}

/// A probe was not sent, or did not arrive.
pub fn error(number: u64, error: &str) -> String {
    let event = Event::new("error").with("seq", number);
    event.with("error", error).line()
}

/// A datagram that answers no probe.
pub fn unexpected(arrival: &Arrival, received: &[u8]) -> String {
    Event::new("unexpected")
        .with("address", arrival.source.as_ref().map(ip))
        .with("port", arrival.source.map(|source| source.port()))
        .with("size_bytes", arrival.size)
        .with_data(received)
        .line()
}

/// An outage has begun or ended.
pub fn change(change: &Change) -> String {
    let (name, outage) = match change {
        Change::Down(outage) => ("down", outage),
        Change::Up(outage) => ("up", outage),
    };
    let event = Event::new(name)
        .with("start", rfc3339(outage.start.clock))
        .with("first_seq", outage.first);
    let Some(end) = outage.end else {
        return event.line();
    };
    event
        .with("end", rfc3339(end.clock))
        .with("seconds", seconds(outage.time()))
        .with("last_seq", outage.last)
        .line()
}

fn outage(outage: &Outage) -> Value {
    let end = outage.end;
    json!({
        "start": rfc3339(outage.start.clock),
        "end": end.map(|end| rfc3339(end.clock)),
        "seconds": end.map(|_| seconds(outage.time())),
        "first_seq": outage.first,
        "last_seq": outage.last,
    })
}

/// Seconds, rounded to the microsecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

/// The statistics of a run that goes on (`interim`), or at its end (`summary`).
pub fn statistics(name: &str, statistics: &Statistics) -> String {
    let times = &statistics.times;
    let Findings { outages, order } = &statistics.findings;
    let rtt = |time: Duration| (!times.is_empty()).then(|| milliseconds(time));
    Event::new(name)
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
        .with("jitter_rfc3550_ms", rtt(times.jitter_rfc3550()))
        .with("loss_bursts", outages.bursts)
        .with("longest_loss_burst", outages.longest_burst)
        .with(
            "outages",
            outages.first_ones().map(outage).collect::<Value>(),
        )
        .with("outages_total", outages.total())
        .with("reordered", order.reordered)
        .with("reorder_extent", order.extent)
        .line()
}
