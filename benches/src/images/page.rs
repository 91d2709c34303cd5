//! What was measured of images, for readers: tables in the terminal, raw
//! figures, `RESULTS-images.md` with its plots.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Plan;
use super::client::Client;
use super::corpus::{Corpus, Size};
use super::workload::{Group, Workload};
use crate::errors::at;
use crate::figure::{Unit, digits};
use crate::report::{machine, plot, table};
use crate::results::Results;

/// Everything a report is made of.
pub struct Report<'a> {
    /// What was to be measured.
    pub plan: &'a Plan,
    /// The rows.
    pub workloads: &'a [&'a Workload],
    /// What was measured.
    pub results: &'a Results,
    /// By which commands.
    pub commands: &'a [String],
}

impl Report<'_> {
    /// A table for each workload.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        for workload in self.workloads {
            text.push_str(&format!("\n{}: {}\n", workload.name, workload.about));
            text.push_str(&table::plain(&self.rows(workload)));
            for line in self.troubles(workload) {
                text.push_str(&format!("{line}\n"));
            }
        }
        text.push('\n');
        for claim in self.claims() {
            text.push_str(&format!("{claim}\n"));
        }
        text
    }

    /// Writes every run as it was to `target/bench`, under the time it was
    /// written.
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn write_raw(&self) -> io::Result<PathBuf> {
        #[derive(Serialize)]
        struct Raw<'a> {
            command: &'a str,
            machine: Vec<String>,
            rounds: usize,
            size: Size,
            results: &'a Results,
        }
        let plan = self.plan;
        let raw = Raw {
            command: &plan.command,
            machine: machine::hardware(),
            rounds: plan.rounds,
            size: plan.size,
            results: self.results,
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let path = plan.home.join(format!("figures-images-{}.json", now.as_secs()));
        fs::write(&path, serde_json::to_string_pretty(&raw)?).map_err(|e| at(&path, e))?;
        Ok(path)
    }

    /// Writes the page and its plots to `dir`.
    ///
    /// # Errors
    /// Those of writing the files.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let plots = dir.join("plots");
        fs::create_dir_all(&plots)?;
        let mut text = self.head()?;
        for group in Group::ALL {
            let workloads: Vec<&Workload> =
                self.workloads.iter().copied().filter(|w| w.group == group).collect();
            let Some(first) = workloads.first() else { continue };
            let reference = first.reference.name();
            text.push_str(&format!("\n## {}\n", group.name()));
            if let Some(svg) = self.plot(group, &workloads) {
                let file = format!("images-{}.svg", group.name());
                let path = plots.join(&file);
                fs::write(&path, svg).map_err(|e| at(&path, e))?;
                text.push_str(&format!("\n![ratios to {reference}](plots/{file})\n"));
            }
            text.push_str(&format!(
                "\nMedians, and in brackets the ratio to {reference}: above 1 is worse.\n\n"
            ));
            text.push_str(&table::markdown(&self.overview(&workloads)));
            text.push_str("\n<details><summary>spreads, and who is absent</summary>\n");
            for workload in workloads {
                text.push_str(&format!("\n### {}\n{}.\n\n", workload.name, workload.about));
                text.push_str(&table::markdown(&self.rows(workload)));
                for line in self.troubles(workload) {
                    text.push_str(&format!("\n{line}\n"));
                }
            }
            text.push_str("\n</details>\n");
        }
        let path = dir.join("RESULTS-images.md");
        fs::write(&path, text).map_err(|e| at(&path, e))
    }

    fn head(&self) -> io::Result<String> {
        let plan = self.plan;
        let mut text = String::from(
            "# Results: images\n\nWhat is measured and how to read it: [README.md](README.md#images).\n\n",
        );
        if plan.size == Size::Quick || plan.rounds < 3 {
            text.push_str(
                "**A smoke run: small images or few rounds. These figures are not to be quoted.**\n\n",
            );
        }
        self.commands.iter().for_each(|command| text.push_str(&format!("    {command}\n")));
        text.push('\n');
        let mut sentences = machine::hardware();
        sentences.push(format!("stores and layers on {}", machine::file_system(&plan.home)));
        let mut peers: Vec<String> = [Client::Podman, Client::Umoci, Client::FuseOverlayfs]
            .iter()
            .flat_map(|c| c.versions())
            .collect();
        peers.dedup();
        sentences.push(peers.join("; "));
        sentences.extend(Corpus::make(&plan.home, plan.size)?.described()?);
        sentences.push(format!("rounds: {}; medians (min..max)", plan.rounds));
        for sentence in sentences {
            text.push_str(&format!("- {sentence}\n"));
        }
        let claims = self.claims();
        if !claims.is_empty() {
            text.push_str("\n## Side by side\n\n");
            claims.iter().for_each(|claim| text.push_str(&format!("- {claim}\n")));
        }
        Ok(text)
    }

    /// A sentence for each figure: ours beside its reference.
    fn claims(&self) -> Vec<String> {
        let mut claims = Vec::new();
        for workload in self.workloads {
            for figure in self.results.figures(workload.name) {
                let cell = |client: Client| self.results.cell(workload.name, &figure, client.name());
                let (Some(ours), Some(theirs)) = (cell(Client::Runion), cell(workload.reference)) else {
                    continue;
                };
                let median = |cell: &crate::results::Cell| cell.spread.shown(cell.unit).0;
                claims.push(format!(
                    "{}, {figure}: {} against {} of {}: {}",
                    workload.name,
                    median(&ours),
                    median(&theirs),
                    workload.reference.name(),
                    compared(ours.unit, ours.spread.median, theirs.spread.median)
                ));
            }
        }
        claims
    }

    fn rows(&self, workload: &Workload) -> Vec<Vec<String>> {
        let heading = ["figure", "candidate", "median", "min..max"].map(String::from);
        let mut rows = vec![heading.to_vec()];
        rows[0].push(format!("÷{}", workload.reference.name()));
        for figure in self.results.figures(workload.name) {
            for client in workload.clients {
                let Some(cell) = self.results.cell(workload.name, &figure, client.name()) else { continue };
                let (median, extremes) = cell.spread.shown(cell.unit);
                let ratio = self.ratio(workload, &figure, *client).map(digits).unwrap_or_default();
                rows.push(vec![figure.clone(), client.name().to_owned(), median, extremes, ratio]);
            }
        }
        rows
    }

    fn troubles(&self, workload: &Workload) -> Vec<String> {
        let trouble = |client: &Client| {
            let trouble = self.results.trouble(workload.name, client.name())?;
            Some(format!("{}: {trouble}", client.name()))
        };
        workload.clients.iter().filter_map(trouble).collect()
    }

    /// A line for each figure, a column for each candidate.
    fn overview(&self, workloads: &[&Workload]) -> Vec<Vec<String>> {
        let clients = clients(workloads);
        let heading = std::iter::once("").chain(clients.iter().map(|client| client.name()));
        let mut rows = vec![heading.map(String::from).collect()];
        for workload in workloads {
            for figure in self.results.figures(workload.name) {
                let cell = |client: &Client| {
                    let cell = self.results.cell(workload.name, &figure, client.name())?;
                    let median = cell.spread.shown(cell.unit).0;
                    Some(match self.ratio(workload, &figure, *client) {
                        Some(ratio) => format!("{median} ({})", digits(ratio)),
                        None => median,
                    })
                };
                let cells = clients.iter().map(|client| cell(client).unwrap_or_default());
                rows.push(std::iter::once(format!("{}: {figure}", workload.name)).chain(cells).collect());
            }
        }
        rows
    }

    fn plot(&self, group: Group, workloads: &[&Workload]) -> Option<String> {
        let clients = clients(workloads);
        let legend: Vec<String> = clients.iter().map(|client| client.name().to_owned()).collect();
        let mut rows = Vec::new();
        for workload in workloads {
            for figure in self.results.figures(workload.name) {
                let bar = |(candidate, client): (usize, &Client)| {
                    let ratio = self.ratio(workload, &figure, *client)?;
                    (*client != workload.reference).then_some(plot::Bar { candidate, ratio })
                };
                let bars: Vec<plot::Bar> = clients.iter().enumerate().filter_map(bar).collect();
                if !bars.is_empty() {
                    rows.push(plot::Row { label: format!("{}: {figure}", workload.name), bars });
                }
            }
        }
        let reference = workloads.first()?.reference.name();
        let title = format!("{}: ratio to {reference} (right of 1 is worse)", group.name());
        (!rows.is_empty()).then(|| plot::svg(&title, &legend, &rows))
    }

    fn ratio(&self, workload: &Workload, figure: &str, client: Client) -> Option<f64> {
        self.results.ratio(workload.name, figure, client.name(), workload.reference.name())
    }
}

fn clients(workloads: &[&Workload]) -> Vec<Client> {
    let mut clients = Vec::new();
    for client in workloads.iter().flat_map(|workload| workload.clients) {
        if !clients.contains(client) {
            clients.push(*client);
        }
    }
    clients
}

/// How one number compares with another, in words: times for seconds, parts of
/// a hundred for bytes.
fn compared(unit: Unit, ours: f64, theirs: f64) -> String {
    let Some(ratio) = unit.ratio(ours, theirs) else { return "nothing to compare".to_owned() };
    match unit {
        Unit::Bytes if ratio <= 1.0 => format!("{:.0} % less", (1.0 - ratio) * 100.0),
        Unit::Bytes => format!("{:.0} % more", (ratio - 1.0) * 100.0),
        _ if ratio <= 1.0 => format!("{}× as fast", digits(1.0 / ratio)),
        _ => format!("{}× as long", digits(ratio)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_in_parts_of_a_hundred_and_seconds_in_times() {
        assert_eq!(compared(Unit::Bytes, 65.0, 100.0), "35 % less");
        assert_eq!(compared(Unit::Bytes, 110.0, 100.0), "10 % more");
        assert_eq!(compared(Unit::Seconds, 2.0, 5.0), "2.50× as fast");
        assert_eq!(compared(Unit::SecondsEach, 3.0, 2.0), "1.50× as long");
        assert_eq!(compared(Unit::Bytes, 1.0, 0.0), "nothing to compare");
    }
}
