//! Runs the contestants of a row in turn and prints the table of what they measured.

use std::time::Instant;

use anyhow::Context;

use crate::programs::grant_time;

/// How many rounds count, after the warm-up.
const ROUNDS: usize = 5;

/// What a run measures.
pub struct Measure {
    pub unit: &'static str,
    pub better: Better,
}

impl Measure {
    pub const fn less(unit: &'static str) -> Self {
        let better = Better::Less;
        Self { unit, better }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

pub const GIGABYTES: Measure = Measure {
    unit: "GB/s",
    better: Better::More,
};

/// The warm-up checks the bytes; only later rounds are measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Round {
    WarmUp,
    Counts,
}

/// Does the work once and returns its values, in the order of the row's measures.
type Run = Box<dyn FnMut(Round) -> anyhow::Result<Vec<f64>>>;

pub struct Contestant {
    name: String,
    run: Run,
}

/// One kind of work and its contestants. netkit is the first.
pub struct Row {
    title: String,
    measures: Vec<Measure>,
    contestants: Vec<Contestant>,
    missing: Vec<String>,
    rounds: usize,
}

impl Row {
    pub fn new(title: impl Into<String>, measures: Vec<Measure>) -> Self {
        Self {
            title: title.into(),
            measures,
            contestants: Vec::new(),
            missing: Vec::new(),
            rounds: ROUNDS,
        }
    }

    pub fn add(
        &mut self,
        name: impl Into<String>,
        run: impl FnMut(Round) -> anyhow::Result<Vec<f64>> + 'static,
    ) {
        self.contestants.push(Contestant {
            name: name.into(),
            run: Box::new(run),
        });
    }

    pub fn is_missing(&mut self, name: &str) {
        self.missing.push(name.to_owned());
    }

    /// Short work, and work that depends on the scheduler, needs more rounds than others.
    pub fn with_rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// Runs all rounds and prints the table. A peer that fails is named and left out; netkit may
    /// not fail.
    pub fn run(mut self, name: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        println!("{name}: {}", self.title);
        let mut values: Vec<Vec<Vec<f64>>> = self.contestants.iter().map(|_| Vec::new()).collect();
        let mut failed: Vec<bool> = self.contestants.iter().map(|_| false).collect();
        for round in 0..=self.rounds {
            let kind = if round == 0 {
                Round::WarmUp
            } else {
                Round::Counts
            };
            // Another contestant begins each round, so that the order does not matter.
            let count = self.contestants.len();
            for index in (0..count).map(|place| (place + round) % count) {
                if failed[index] {
                    continue;
                }
                let contestant = &mut self.contestants[index];
                grant_time();
                match (contestant.run)(kind) {
                    Ok(measured) if kind == Round::Counts => values[index].push(measured),
                    Ok(_) => {}
                    Err(error) if index == 0 => {
                        return Err(error).with_context(|| contestant.name.clone());
                    }
                    Err(error) => {
                        println!("  {} failed: {error:#}", contestant.name);
                        failed[index] = true;
                    }
                }
            }
        }
        self.print(&values);
        println!("  {:.0} s\n", start.elapsed().as_secs_f64());
        Ok(())
    }

    fn print(&self, values: &[Vec<Vec<f64>>]) {
        println!(
            "  {:<28} {:>10} {:>10} {:>10}  {:<12} netkit's lead",
            "", "median", "min", "max", ""
        );
        for (column, measure) in self.measures.iter().enumerate() {
            let mut first = None;
            for (contestant, runs) in self.contestants.iter().zip(values) {
                let mut sorted: Vec<f64> = runs.iter().map(|run| run[column]).collect();
                if sorted.is_empty() {
                    continue;
                }
                sorted.sort_by(f64::total_cmp);
                let median = sorted[sorted.len() / 2];
                let ours = *first.get_or_insert(median);
                let lead = match measure.better {
                    Better::More => ours / median,
                    Better::Less => median / ours,
                };
                println!(
                    "  {:<28} {:>10} {:>10} {:>10}  {:<12} {lead:.2}",
                    contestant.name,
                    short(median),
                    short(sorted[0]),
                    short(sorted[sorted.len() - 1]),
                    measure.unit,
                );
            }
        }
        for name in &self.missing {
            println!("  {name} is not installed");
        }
    }
}

/// At least three significant digits.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}
