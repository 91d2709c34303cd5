//! Everything that was measured, by workload, candidate and round, and what is
//! said of it: spreads, ratios.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::errors::at;
use crate::figure::{Daemon, Figure, Spread, Unit};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// With all its figures.
    Done,
    /// The candidate cannot be had here: why.
    Absent(String),
    /// Not as it should: why.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Absent(reason) => write!(f, "absent: {reason}"),
            Outcome::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// What it measured.
    pub figures: Vec<Figure>,
    /// What the daemons used.
    pub daemon: Option<Daemon>,
    /// Their system calls, in the pass that counts them.
    pub syscalls: BTreeMap<String, u64>,
}

impl Run {
    /// A run without figures, yet.
    pub fn ended(outcome: Outcome) -> Run {
        Run { outcome, figures: Vec::new(), daemon: None, syscalls: BTreeMap::new() }
    }
}

/// Every run, in the order they were made.
#[derive(Default, Serialize, Deserialize)]
pub struct Results {
    runs: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    workload: String,
    candidate: String,
    #[serde(flatten)]
    run: Run,
}

/// One figure over all rounds.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Over the rounds.
    pub spread: Spread,
    /// Of the values.
    pub unit: Unit,
}

/// Raw figures of an earlier run, as far as they are shown again.
#[derive(Deserialize)]
pub struct Earlier {
    /// What made them.
    pub command: String,
    /// The figures.
    pub results: Results,
}

impl Earlier {
    /// What a run has left in `target/bench`.
    ///
    /// # Errors
    /// Those of reading the file, and what is wrong with it.
    pub fn read(path: &Path) -> io::Result<Earlier> {
        let text = fs::read(path).map_err(|e| at(path, e))?;
        serde_json::from_slice(&text).map_err(|e| at(path, e.into()))
    }
}

impl Results {
    /// Adds what an earlier run measured, and no workload of this one.
    pub fn add_earlier(&mut self, earlier: Results) {
        let own: Vec<String> = self.runs.iter().map(|entry| entry.workload.clone()).collect();
        self.runs.extend(earlier.runs.into_iter().filter(|entry| !own.contains(&entry.workload)));
    }

    /// Who was measured, in the order in which they were.
    pub fn candidates(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for entry in &self.runs {
            if !names.contains(&entry.candidate.as_str()) {
                names.push(&entry.candidate);
            }
        }
        names
    }

    /// Whether anything of this workload was measured.
    pub fn has(&self, workload: &str) -> bool {
        self.runs.iter().any(|entry| entry.workload == workload)
    }

    /// One more.
    pub fn add(&mut self, workload: &str, candidate: &str, run: Run) {
        self.runs.push(Entry { workload: workload.to_owned(), candidate: candidate.to_owned(), run });
    }

    /// The runs of a candidate in a workload.
    pub fn of<'a>(&'a self, workload: &'a str, candidate: &'a str) -> impl Iterator<Item = &'a Run> {
        let runs = self.runs.iter();
        runs.filter(move |e| e.workload == workload && e.candidate == candidate).map(|e| &e.run)
    }

    /// Whether a candidate is not to be tried again in a workload.
    pub fn gave_up(&self, workload: &str, candidate: &str) -> bool {
        self.of(workload, candidate).any(|run| run.outcome != Outcome::Done)
    }

    /// Whether a candidate has any figures at all.
    pub fn has_figures(&self, candidate: &str) -> bool {
        self.runs.iter().any(|e| e.candidate == candidate && e.run.outcome == Outcome::Done)
    }

    /// Why a candidate that has no figures anywhere has none.
    pub fn absence(&self, candidate: &str) -> Option<&Outcome> {
        match self.has_figures(candidate) {
            true => None,
            false => self.runs.iter().find(|e| e.candidate == candidate).map(|e| &e.run.outcome),
        }
    }

    /// Why a candidate has no figures in a workload.
    pub fn trouble(&self, workload: &str, candidate: &str) -> Option<&Outcome> {
        let mut runs = self.runs.iter().filter(|e| e.workload == workload && e.candidate == candidate);
        runs.find(|e| e.run.outcome != Outcome::Done).map(|e| &e.run.outcome)
    }

    /// The figures of a workload, in the order in which they were measured.
    pub fn figures(&self, workload: &str) -> Vec<String> {
        let mut names = Vec::new();
        for entry in self.runs.iter().filter(|e| e.workload == workload && e.run.outcome == Outcome::Done) {
            for figure in &entry.run.figures {
                if !names.contains(&figure.name) {
                    names.push(figure.name.clone());
                }
            }
        }
        names
    }

    /// One figure of a candidate over all rounds.
    pub fn cell(&self, workload: &str, figure: &str, candidate: &str) -> Option<Cell> {
        let found: Vec<&Figure> = self.each(workload, figure, candidate).collect();
        let values: Vec<f64> = found.iter().map(|figure| figure.value).collect();
        Some(Cell { spread: Spread::of(&values)?, unit: found.first()?.unit })
    }

    /// How many times as dear as another candidate one is.
    pub fn ratio(&self, workload: &str, figure: &str, candidate: &str, reference: &str) -> Option<f64> {
        let cell = self.cell(workload, figure, candidate)?;
        let other = self.cell(workload, figure, reference)?;
        cell.unit.ratio(cell.spread.median, other.spread.median)
    }

    /// Requests per operation (per MiB of a throughput) by opcode, of the first round that counted them.
    pub fn requests(&self, workload: &str, figure: &str, candidate: &str) -> BTreeMap<String, f64> {
        let counted = self.each(workload, figure, candidate).find(|figure| !figure.requests.is_empty());
        let each = |figure: &Figure| {
            let operations = match figure.unit {
                Unit::BytesPerSecond => figure.operations as f64 / f64::from(1 << 20),
                _ => figure.operations.max(1) as f64,
            };
            figure.requests.iter().map(|(name, count)| (name.clone(), *count as f64 / operations)).collect()
        };
        counted.map(each).unwrap_or_default()
    }

    /// Median processor time of the daemons in a workload.
    pub fn cpu(&self, workload: &str, candidate: &str) -> Option<f64> {
        let runs = self.of(workload, candidate);
        let values: Vec<f64> = runs.filter_map(|run| run.daemon.map(|daemon| daemon.cpu)).collect();
        Spread::of(&values).map(|spread| spread.median)
    }

    fn each(&self, workload: &str, figure: &str, candidate: &str) -> impl Iterator<Item = &Figure> {
        let (workload, figure, candidate) = (workload.to_owned(), figure.to_owned(), candidate.to_owned());
        let runs = self.runs.iter().filter(move |e| e.workload == workload && e.candidate == candidate);
        // What was measured on the way to a failure is in the raw figures only.
        let done = runs.filter(|e| e.run.outcome == Outcome::Done);
        done.flat_map(|e| &e.run.figures).filter(move |f| f.name == figure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcome: Outcome, value: f64) -> Run {
        let figure = Figure {
            name: "cold".to_owned(),
            value,
            unit: Unit::Seconds,
            operations: 2,
            requests: [("LOOKUP".to_owned(), 3)].into(),
        };
        Run { figures: vec![figure], ..Run::ended(outcome) }
    }

    fn results() -> Results {
        let mut results = Results::default();
        for value in [1.0, 3.0, 2.0] {
            results.add("walk", "overlay", run(Outcome::Done, value));
            results.add("walk", "ours", run(Outcome::Done, value * 2.0));
        }
        results.add("walk", "broken", run(Outcome::Failed("it broke".to_owned()), 9.0));
        results
    }

    #[test]
    fn rounds_become_medians_and_ratios() {
        let results = results();
        assert_eq!(results.cell("walk", "cold", "ours").unwrap().spread.median, 4.0);
        assert_eq!(results.ratio("walk", "cold", "ours", "overlay"), Some(2.0));
        assert_eq!(results.requests("walk", "cold", "ours").get("LOOKUP"), Some(&1.5));
        assert_eq!(results.figures("walk"), ["cold"]);
    }

    #[test]
    fn a_failed_run_has_a_reason_and_no_figures() {
        let results = results();
        assert!(results.cell("walk", "cold", "broken").is_none());
        assert!(results.gave_up("walk", "broken") && !results.has_figures("broken"));
        assert_eq!(results.absence("broken").unwrap().to_string(), "failed: it broke");
        assert!(results.absence("ours").is_none());
    }
}
