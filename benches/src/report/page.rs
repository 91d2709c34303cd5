//! `benches/RESULTS.md` and its plots; with settings other than the usual ones a
//! page of their own, `RESULTS-one-cpu.md` for example.

use std::fs;
use std::io;
use std::path::Path;

use super::{REFERENCES, absences, cpu, machine, plot, requests, rows, syscalls, table, troubles};
use crate::errors::at;
use crate::figure::digits;
use crate::plan::{Caches, Pass, Placement, Upper};
use crate::results::Results;
use crate::session::Session;
use crate::size::Sizes;
use crate::workload::{Group, Workload};

/// What everything in a plot is compared with.
const REFERENCE: &str = REFERENCES[1].0;

/// Writes the page and one plot for each group to `dir`.
///
/// # Errors
/// Those of writing the files.
pub fn write_page(session: &Session, results: &Results, commands: &[String], dir: &Path) -> io::Result<()> {
    let plots = dir.join("plots");
    fs::create_dir_all(&plots)?;
    let suffix = suffix(session);
    let mut text = head(session, commands);
    for line in absences(session, results) {
        text.push_str(&format!("- {line}\n"));
    }
    for group in Group::ALL {
        let workloads: Vec<_> = session.workloads.iter().filter(|w| w.group == group).collect();
        if workloads.is_empty() {
            continue;
        }
        text.push_str(&format!("\n## {}\n", group.name()));
        if let Some(svg) = plotted(session, results, group) {
            let plot = format!("{}{suffix}.svg", group.name());
            write(&plots.join(&plot), &svg)?;
            text.push_str(&format!("\n![ratios to kernel overlayfs](plots/{plot})\n"));
        }
        text.push_str("\nMedians, and in brackets the ratio to kernel overlayfs: above 1 is worse.\n\n");
        text.push_str(&table::markdown(&overview(session, results, &workloads)));
        text.push_str("\n<details><summary>spreads, other ratios, requests per operation</summary>\n");
        for workload in workloads {
            text.push_str(&format!(
                "\n### {}\n{}; lowers: {}.\n\n",
                workload.name, workload.about, workload.lowers
            ));
            text.push_str(&table::markdown(&rows(session, results, workload.name)));
            for line in troubles(session, results, workload.name) {
                text.push_str(&format!("\n{line}\n"));
            }
            for line in requests(session, results, workload.name).lines() {
                text.push_str(&format!("\n{line}\n"));
            }
        }
        text.push_str("\n</details>\n");
    }
    text.push_str("\n## processor time of the daemons, seconds\n\n");
    text.push_str(&table::markdown(&cpu(session, results)));
    if session.plan.pass == Pass::Syscalls {
        text.push_str("\n## system calls of the daemons\n\n");
        text.push_str(&table::markdown(&syscalls(session, results)));
    }
    write(&dir.join(format!("RESULTS{suffix}.md")), &text)
}

/// A line for each figure, a column for each candidate.
fn overview(session: &Session, results: &Results, workloads: &[&&Workload]) -> Vec<Vec<String>> {
    let names = shown(session, results);
    let mut rows = vec![std::iter::once("").chain(names.iter().copied()).map(String::from).collect()];
    for workload in workloads {
        for figure in results.figures(workload.name) {
            let cell = |name: &&str| {
                let cell = results.cell(workload.name, &figure, name)?;
                let median = cell.spread.shown(cell.unit).0;
                Some(match results.ratio(workload.name, &figure, name, REFERENCE) {
                    Some(ratio) => format!("{median} ({})", digits(ratio)),
                    None => median,
                })
            };
            let cells = names.iter().map(|name| cell(name).unwrap_or_default());
            rows.push(std::iter::once(format!("{}: {figure}", workload.name)).chain(cells).collect());
        }
    }
    rows
}

/// The candidates that have figures.
fn shown<'a>(session: &'a Session, results: &Results) -> Vec<&'a str> {
    let names = session.candidates.iter().map(|candidate| candidate.name.as_str());
    names.filter(|name| results.has_figures(name)).collect()
}

/// What tells the pages of different settings apart.
fn suffix(session: &Session) -> String {
    let mut suffix = String::new();
    if session.plan.placement == Placement::OneCpu {
        suffix.push_str("-one-cpu");
    }
    if session.plan.upper == Upper::Ext4 {
        suffix.push_str("-ext4");
    }
    if session.plan.caches == Caches::NamesDropped {
        suffix.push_str("-dropped");
    }
    if session.plan.pass == Pass::Syscalls {
        suffix.push_str("-syscalls");
    }
    suffix
}

fn head(session: &Session, commands: &[String]) -> String {
    let plan = &session.plan;
    let placement = match plan.placement {
        Placement::Free => "clients and daemons wherever the scheduler puts them",
        Placement::OneCpu => "clients and daemons on one CPU",
    };
    let mut text =
        String::from("# Results\n\nWhat is measured and how to read it: [README.md](README.md).\n\n");
    if plan.sizes != Sizes::FULL || session.rounds < 3 {
        text.push_str("**A smoke run: small sizes or few rounds. These figures are not to be quoted.**\n\n");
    }
    commands.iter().for_each(|command| text.push_str(&format!("    {command}\n")));
    text.push('\n');
    for line in machine::described(&plan.home, plan.upper) {
        text.push_str(&format!("- {line}\n"));
    }
    if plan.caches == Caches::NamesDropped {
        text.push_str(
            "- names and attributes of the layers dropped from the kernel's caches before each mount\n",
        );
    }
    let joined = if commands.len() > 1 { ", of what was joined as its command says" } else { "" };
    text.push_str(&format!("- {placement}; rounds: {}{joined}; medians (min..max)\n", session.rounds));
    text
}

fn plotted(session: &Session, results: &Results, group: Group) -> Option<String> {
    let legend: Vec<String> = shown(session, results).into_iter().map(String::from).collect();
    let mut rows = Vec::new();
    for workload in session.workloads.iter().filter(|workload| workload.group == group) {
        for figure in results.figures(workload.name) {
            let bar = |(candidate, name): (usize, &String)| {
                let ratio = results.ratio(workload.name, &figure, name, REFERENCE)?;
                (name != REFERENCE).then_some(plot::Bar { candidate, ratio })
            };
            let bars: Vec<plot::Bar> = legend.iter().enumerate().filter_map(bar).collect();
            if !bars.is_empty() {
                rows.push(plot::Row { label: format!("{}: {figure}", workload.name), bars });
            }
        }
    }
    let title = format!("{}: ratio to kernel overlayfs (right of 1 is slower)", group.name());
    (!rows.is_empty()).then(|| plot::svg(&title, &legend, &rows))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|e| at(path, e))
}
