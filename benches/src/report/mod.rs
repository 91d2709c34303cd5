//! What was measured, for readers: in the terminal, as raw figures, as a page
//! with plots.

pub mod machine;
mod page;
pub mod plot;
pub mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::candidate::Candidate;
use crate::errors::at;
use crate::figure::digits;
use crate::plan::{Pass, Placement, Upper};
use crate::results::Results;
use crate::session::Session;
pub use page::write_page;

/// The candidates everything is compared with, and how the tables call it.
pub const REFERENCES: [(&str, &str); 3] =
    [("bare", "÷bare"), ("overlay", "÷overlay"), ("fuse-overlayfs-2", "÷fo2")];

/// The tables of a session.
pub fn tables(session: &Session, results: &Results) -> String {
    let mut text = String::new();
    for workload in &session.workloads {
        text.push_str(&format!("\n{}: {} (lowers: {})\n", workload.name, workload.about, workload.lowers));
        text.push_str(&table::plain(&rows(session, results, workload.name)));
        for line in troubles(session, results, workload.name) {
            text.push_str(&format!("{line}\n"));
        }
        text.push_str(&requests(session, results, workload.name));
    }
    for line in absences(session, results) {
        text.push_str(&format!("\n{line}\n"));
    }
    text.push_str("\nprocessor time of the daemons, seconds\n");
    text.push_str(&table::plain(&cpu(session, results)));
    if session.plan.pass == Pass::Syscalls {
        text.push_str("\nsystem calls of the daemons\n");
        text.push_str(&table::plain(&syscalls(session, results)));
    }
    text
}

/// A heading and, for every figure and candidate, the median, the spread and
/// the ratios to the references.
fn rows(session: &Session, results: &Results, workload: &str) -> Vec<Vec<String>> {
    let mut heading: Vec<String> = ["figure", "candidate", "median", "min..max"].map(String::from).to_vec();
    heading.extend(REFERENCES.map(|(_, shown)| shown.to_owned()));
    let mut rows = vec![heading];
    for figure in results.figures(workload) {
        for candidate in &session.candidates {
            let Some(cell) = results.cell(workload, &figure, &candidate.name) else { continue };
            let (median, extremes) = cell.spread.shown(cell.unit);
            let mut row = vec![figure.clone(), candidate.name.clone(), median, extremes];
            row.extend(REFERENCES.map(|(reference, _)| {
                results.ratio(workload, &figure, &candidate.name, reference).map(digits).unwrap_or_default()
            }));
            rows.push(row);
        }
    }
    rows
}

/// Why a candidate has no figures in a workload, where it has some in others.
fn troubles(session: &Session, results: &Results, workload: &str) -> Vec<String> {
    let elsewhere = session.candidates.iter().filter(|candidate| results.has_figures(&candidate.name));
    let trouble = |candidate: &Candidate| {
        results.trouble(workload, &candidate.name).map(|trouble| format!("{}: {trouble}", candidate.name))
    };
    elsewhere.filter_map(trouble).collect()
}

/// Why candidates have no figures at all.
fn absences(session: &Session, results: &Results) -> Vec<String> {
    let absence = |candidate: &Candidate| {
        results.absence(&candidate.name).map(|reason| format!("{}: {reason}", candidate.name))
    };
    session.candidates.iter().filter_map(absence).collect()
}

/// Requests per operation, one line for each figure of a candidate that counts.
fn requests(session: &Session, results: &Results, workload: &str) -> String {
    let mut text = String::new();
    for figure in results.figures(workload) {
        for candidate in &session.candidates {
            let counts = results.requests(workload, &figure, &candidate.name);
            if !counts.is_empty() {
                let counts: Vec<String> =
                    counts.iter().map(|(name, each)| format!("{name} {}", digits(*each))).collect();
                let name = &candidate.name;
                text.push_str(&format!("requests per operation, {figure}, {name}: {}\n", counts.join(", ")));
            }
        }
    }
    text
}

/// Seconds by workload and candidate, and their sums over the workloads that
/// every daemon came through.
fn cpu(session: &Session, results: &Results) -> Vec<Vec<String>> {
    let served: Vec<&str> = session
        .candidates
        .iter()
        .map(|candidate| candidate.name.as_str())
        .filter(|name| session.workloads.iter().any(|w| results.cpu(w.name, name).is_some()))
        .collect();
    let mut rows =
        vec![std::iter::once("workload").chain(served.iter().copied()).map(String::from).collect()];
    let mut sums = vec![0.0; served.len()];
    for workload in &session.workloads {
        let cells: Vec<Option<f64>> = served.iter().map(|name| results.cpu(workload.name, name)).collect();
        if cells.iter().all(Option::is_some) {
            sums.iter_mut().zip(&cells).for_each(|(sum, cell)| *sum += cell.unwrap_or(0.0));
        }
        let shown = cells.iter().map(|cell| cell.map(|cpu| format!("{cpu:.2}")).unwrap_or_default());
        rows.push(std::iter::once(workload.name.to_owned()).chain(shown).collect());
    }
    let sums = sums.iter().map(|sum| format!("{sum:.2}"));
    rows.push(std::iter::once("all that every daemon finished".to_owned()).chain(sums).collect());
    rows
}

fn syscalls(session: &Session, results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![["workload", "candidate", "calls"].map(String::from).to_vec()];
    for workload in &session.workloads {
        for candidate in &session.candidates {
            let Some(run) = results.of(workload.name, &candidate.name).next() else { continue };
            let mut counts: Vec<_> = run.syscalls.iter().collect();
            counts.sort_by(|a, b| b.1.cmp(a.1));
            if !counts.is_empty() {
                let shown: Vec<String> =
                    counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
                rows.push(vec![workload.name.to_owned(), candidate.name.clone(), shown.join(", ")]);
            }
        }
    }
    rows
}

/// Writes every run as it was to `dir`, under the time it was written.
///
/// # Errors
/// Those of writing the file.
pub fn write_raw(session: &Session, results: &Results, command: &str, dir: &Path) -> io::Result<PathBuf> {
    #[derive(Serialize)]
    struct Raw<'a> {
        command: &'a str,
        machine: Vec<String>,
        rounds: usize,
        placement: Placement,
        upper: Upper,
        sizes: crate::size::Sizes,
        results: &'a Results,
    }
    let plan = &session.plan;
    let raw = Raw {
        command,
        machine: machine::described(&plan.home, plan.upper),
        rounds: session.rounds,
        placement: plan.placement,
        upper: plan.upper,
        sizes: plan.sizes,
        results,
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let path = dir.join(format!("figures-{}.json", now.as_secs()));
    fs::write(&path, serde_json::to_string_pretty(&raw)?).map_err(|e| at(&path, e))?;
    Ok(path)
}
