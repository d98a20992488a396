//! What a ping says for people about outages, runs of losses and reordering.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::clock::local;
use super::order::Order;
use super::outages::{Change, Outage, Outages};

/// What there is to say beyond ping's own counts.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub outages: Outages,
    /// The order of the answers in time.
    pub order: Order,
}

/// The lines before the statistics, after an empty one. Empty if there is nothing to say.
pub fn block(findings: &Findings, now: SystemTime) -> String {
    let Findings { outages, order } = findings;
    let mut text = String::new();
    if let Some(longest) = outages.longest() {
        let _ = writeln!(text, "{}", all(outages, longest, now));
        let _ = writeln!(text, "longest run of losses {}", outages.longest_burst);
    }
    if order.reordered > 0 {
        let (reordered, extent) = (order.reordered, order.extent);
        let _ = writeln!(text, "{reordered} reordered, by {extent} at most");
    }
    if !text.is_empty() {
        text.insert(0, '\n');
    }
    text
}

fn all(outages: &Outages, longest: &Outage, now: SystemTime) -> String {
    let total = outages.total();
    if total == 1 {
        return format!("1 outage, {}: {}", time(longest), span(longest, now));
    }
    let (sum, is_least) = outages.time();
    let sum = at_least(is_least, seconds(sum));
    let mut text = format!(
        "{total} outages, {sum} in all, the longest {}: {}",
        time(longest),
        span(longest, now)
    );
    if let Some(lasting) = outages.lasting().filter(|lasting| *lasting != longest) {
        let _ = write!(text, "; the last {}", span(lasting, now));
    }
    text
}

/// The line about a change as it happens. `target` stands as typed.
pub fn change(target: &str, change: &Change, now: SystemTime) -> String {
    match change {
        Change::Down(outage) => {
            let start = local(outage.start.clock, now, is_short(outage));
            let (first, last) = (outage.first, outage.last);
            format!("{target} has not answered since {start} (probes {first}-{last})")
        }
        Change::Up(outage) => format!(
            "{target} answers again after {}: {}",
            time(outage),
            span(outage, now)
        ),
    }
}

fn time(outage: &Outage) -> String {
    at_least(outage.end.is_none(), seconds(outage.time()))
}

fn at_least(is_least: bool, time: String) -> String {
    if is_least {
        return format!("at least {time}");
    }
    time
}

/// When it was, and which probes were lost.
fn span(outage: &Outage, now: SystemTime) -> String {
    let at = |time| local(time, now, is_short(outage));
    let (start, first, last) = (at(outage.start.clock), outage.first, outage.last);
    match outage.end {
        Some(end) => format!("{start} to {} (probes {first}-{last})", at(end.clock)),
        None => format!("since {start} (probes {first}-{last})"),
    }
}

/// Whether whole seconds would not tell its start from its end.
fn is_short(outage: &Outage) -> bool {
    outage.time() < Duration::from_secs(1)
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if time < Duration::from_secs(1) {
        return format!("{seconds:.3} s");
    }
    format!("{seconds:.1} s")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ping::outages::Moment;

    /// A run with a probe every `interval`, of which those with an `x` are lost, and its end.
    fn run(fates: &str, interval: Duration) -> (Findings, SystemTime) {
        let (at, clock) = (Instant::now(), SystemTime::now());
        let mut outages = Outages::default();
        for (number, fate) in (1..).zip(fates.chars()) {
            let since = interval * u32::try_from(number).unwrap();
            outages.sent(Moment {
                at: at + since,
                clock: clock + since,
            });
            if fate == 'x' {
                outages.lost(number);
            } else {
                outages.answered(number);
            }
        }
        let order = Order::default();
        (Findings { outages, order }, clock)
    }

    #[test]
    fn nothing_is_said_of_single_losses() {
        let (findings, now) = run(".x..x", Duration::from_secs(1));
        assert_eq!(block(&findings, now), "");
    }

    #[test]
    fn an_outage_is_told_with_its_times_and_probes() {
        let second = Duration::from_secs(1);
        let (findings, now) = run("..xxxx..", second);
        let at = |number| local(now + second * number, now, false);
        assert_eq!(
            block(&findings, now),
            format!(
                "\n1 outage, 4.0 s: {} to {} (probes 3-6)\nlongest run of losses 4\n",
                at(3),
                at(7)
            )
        );
        let outage = findings.outages.longest().unwrap();
        assert_eq!(
            change("db:7", &Change::Up(*outage), now),
            format!(
                "db:7 answers again after 4.0 s: {} to {} (probes 3-6)",
                at(3),
                at(7)
            )
        );
    }

    #[test]
    fn of_several_outages_the_longest_is_told_and_the_last_if_it_lasts() {
        let second = Duration::from_secs(1);
        let (findings, now) = run(".xx.xxx.", second);
        let at = |number| local(now + second * number, now, false);
        let text = block(&findings, now);
        let first = text.lines().nth(1).unwrap();
        assert_eq!(
            first,
            format!(
                "2 outages, 5.0 s in all, the longest 3.0 s: {} to {} (probes 5-7)",
                at(5),
                at(8)
            )
        );
        let (findings, now) = run("xxx.xx", second);
        let at = |number| local(now + second * number, now, false);
        assert!(block(&findings, now).starts_with(&format!(
            "\n2 outages, at least 4.0 s in all, the longest 3.0 s: {} to {} (probes 1-3); \
             the last since {} (probes 5-6)\n",
            at(1),
            at(4),
            at(5)
        )));
        let (findings, now) = run("xxx", second);
        assert!(block(&findings, now).starts_with(&format!(
            "\n1 outage, at least 2.0 s: since {} (probes 1-3)\n",
            local(now + second, now, false)
        )));
    }

    #[test]
    fn a_short_outage_is_told_to_the_millisecond() {
        let interval = Duration::from_millis(10);
        let (findings, now) = run(".xx.", interval);
        let at = |number| local(now + interval * number, now, true);
        assert!(block(&findings, now).starts_with(&format!(
            "\n1 outage, 0.020 s: {} to {} (probes 2-3)\n",
            at(2),
            at(4)
        )));
    }

    #[test]
    fn reordering_is_told_alone() {
        let mut order = Order::default();
        for number in [1, 4, 2, 3] {
            order.arrived(number);
        }
        let outages = Outages::default();
        let text = block(&Findings { outages, order }, SystemTime::now());
        assert_eq!(text, "\n2 reordered, by 2 at most\n");
    }
}
