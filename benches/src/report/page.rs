//! `benches/RESULTS.md` and its plots.

use std::fs;
use std::io;
use std::path::Path;

use super::{REFERENCES, cpu, machine, plot, requests, rows, syscalls, table};
use crate::errors::at;
use crate::plan::{Pass, Placement};
use crate::results::Results;
use crate::session::Session;
use crate::size::Sizes;
use crate::workload::Group;

/// What everything in a plot is compared with.
const REFERENCE: &str = REFERENCES[1].0;

/// Writes the page and one plot for each group to `dir`.
///
/// # Errors
/// Those of writing the files.
pub fn write_page(session: &Session, results: &Results, command: &str, dir: &Path) -> io::Result<()> {
    let plots = dir.join("plots");
    fs::create_dir_all(&plots)?;
    let mut text = head(session, command);
    for group in Group::ALL {
        let workloads: Vec<_> = session.workloads.iter().filter(|w| w.group == group).collect();
        if workloads.is_empty() {
            continue;
        }
        text.push_str(&format!("\n## {}\n", group.name()));
        if let Some(svg) = plotted(session, results, group) {
            write(&plots.join(format!("{}.svg", group.name())), &svg)?;
            text.push_str(&format!("\n![ratios to kernel overlayfs](plots/{}.svg)\n", group.name()));
        }
        for workload in workloads {
            text.push_str(&format!(
                "\n### {}\n{}; {} lowers.\n\n",
                workload.name, workload.about, workload.lowers
            ));
            text.push_str(&table::markdown(&rows(session, results, workload.name)));
            for candidate in &session.candidates {
                if let Some(trouble) = results.trouble(workload.name, &candidate.name) {
                    text.push_str(&format!("\n{}: {trouble}\n", candidate.name));
                }
            }
            for line in requests(session, results, workload.name).lines() {
                text.push_str(&format!("\n{line}\n"));
            }
        }
    }
    text.push_str("\n## processor time of the daemons, seconds\n\n");
    text.push_str(&table::markdown(&cpu(session, results)));
    if session.plan.pass == Pass::Syscalls {
        text.push_str("\n## system calls of the daemons\n\n");
        text.push_str(&table::markdown(&syscalls(session, results)));
    }
    write(&dir.join("RESULTS.md"), &text)
}

fn head(session: &Session, command: &str) -> String {
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
    text.push_str(&format!("    {command}\n\n"));
    for line in machine::described(&plan.home, plan.upper) {
        text.push_str(&format!("- {line}\n"));
    }
    text.push_str(&format!("- {placement}; {} rounds, medians (min..max)\n", session.rounds));
    text
}

fn plotted(session: &Session, results: &Results, group: Group) -> Option<String> {
    let legend: Vec<String> = session.candidates.iter().map(|candidate| candidate.name.clone()).collect();
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
