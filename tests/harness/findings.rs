//! What a ping has to find about losses and reordering, from the definitions.

use serde_json::Value;

/// Checks the summary of a ping of `count` probes, of which `arrivals` were answered in time, in this
/// order.
#[track_caller]
pub fn check_findings(summary: &Value, count: u64, arrivals: &[u64]) {
    let answered: Vec<bool> = (1..=count).map(|n| arrivals.contains(&n)).collect();
    let mut bursts = Vec::new();
    let mut outages = Vec::new();
    let mut last = 0;
    for run in answered.chunk_by(|a, b| a == b) {
        let first = last + 1;
        last += run.len() as u64;
        if !run[0] {
            bursts.push(run.len());
        }
        if !run[0] && run.len() > 1 {
            outages.push((first, last));
        }
    }
    // RFC 4737: how many positions after the first answer to a later probe.
    let extents = arrivals.iter().enumerate().filter_map(|(index, number)| {
        let earliest = arrivals[..index].iter().position(|other| other > number)?;
        Some(index - earliest)
    });
    let extents: Vec<usize> = extents.collect();
    for (key, value) in [
        ("loss_bursts", bursts.len()),
        (
            "longest_loss_burst",
            bursts.iter().max().copied().unwrap_or(0),
        ),
        ("outages_total", outages.len()),
        ("reordered", extents.len()),
        ("reorder_extent", extents.iter().max().copied().unwrap_or(0)),
    ] {
        assert_eq!(summary[key], value, "{key}: {summary}");
    }
    let told = summary["outages"].as_array().unwrap();
    let number = |outage: &Value, key: &str| outage[key].as_u64().unwrap();
    let numbers = told
        .iter()
        .map(|outage| (number(outage, "first_seq"), number(outage, "last_seq")));
    assert_eq!(numbers.collect::<Vec<_>>(), outages, "{summary}");
    for outage in told {
        let is_over = number(outage, "last_seq") < count;
        assert_eq!(outage["seconds"].as_f64().is_some(), is_over, "{outage}");
        assert_eq!(outage["end"].as_str().is_some(), is_over, "{outage}");
        let start = outage["start"].as_str().unwrap();
        assert!(start.ends_with('Z') && start.contains('T'), "{outage}");
    }
}

/// Checks that `down` and `up` take turns, for the outages of the summary.
#[track_caller]
pub fn check_changes(events: &[Value]) {
    let summary = events.last().unwrap();
    let outages = summary["outages"].as_array().unwrap();
    let mut expected = Vec::new();
    for outage in outages {
        expected.push(("down", &outage["first_seq"], &Value::Null));
        if !outage["end"].is_null() {
            expected.push(("up", &outage["first_seq"], &outage["last_seq"]));
        }
    }
    let is_change = |event: &&Value| event["event"] == "down" || event["event"] == "up";
    let changes = events.iter().filter(is_change);
    let changes = changes.map(|event| {
        let name = event["event"].as_str().unwrap();
        (name, &event["first_seq"], &event["last_seq"])
    });
    assert_eq!(changes.collect::<Vec<_>>(), expected);
}
