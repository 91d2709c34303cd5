//! Measurements of images: `runion` beside podman, skopeo and umoci, and an
//! image's index beside unpacked layers.
//!
//! All of it happens in one process that is the first of a process namespace
//! and has a private mount namespace: registries, daemons and mounts end with
//! it, however it ends. Stores lie below `target/bench/images/scratch`; only
//! what is said to be fresh is made anew for each run.
//!
//! | module | what |
//! |---|---|
//! | `corpus` | the families of images, made once |
//! | `archive` | docker archives |
//! | `client` | the programs that are measured: who has which command |
//! | `registry` | docker-registry on loopback |
//! | `scene` | what is shared by runs: the corpus, loaded stores, the clock |
//! | `workload` | what is measured: one table |
//! | `transport`, `upper`, `mounts`, `disk`, `containers` | a function for each |
//! | `page` | tables, `RESULTS-images.md`, plots |

mod archive;
mod client;
mod containers;
mod corpus;
mod disk;
mod mounts;
mod page;
mod registry;
mod scene;
mod transport;
mod upper;
mod workload;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::programs::{self, Profile};
use crate::results::{Earlier, Outcome, Results, Run};
use crate::sys;
use client::Client;
use corpus::Size;
use scene::Scene;
pub use upper::{COMMIT, commit};
use workload::Workload;

/// Argument by which the program knows that it is inside of its namespaces; a
/// plan follows.
pub const INSIDE: &str = "images-inside";

/// Measure images: load, save, pull, push, commit, mounts, disk.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these workloads, parted by commas: names or beginnings of names
    #[arg(long, value_name = "NAMES")]
    workloads: Option<String>,
    /// How often each candidate plays each workload
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Small images of the host's files, for a first look
    #[arg(long)]
    quick: bool,
    /// Write benches/RESULTS-images.md and its plots
    #[arg(long)]
    write: bool,
    /// Show the raw figures of an earlier run, too, of workloads that this one leaves out
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Show the workloads and their candidates, and measure nothing
    #[arg(long)]
    list: bool,
}

/// What is measured, how often, and with what.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    workloads: Vec<String>,
    rounds: usize,
    size: Size,
    page: Page,
    /// `target/bench`.
    home: PathBuf,
    runion: PathBuf,
    mount_runionfs: PathBuf,
    command: String,
    with: Vec<PathBuf>,
}

/// Whether the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Page {
    Written,
    Left,
}

/// Does what the command line says.
///
/// # Errors
/// A sentence for the user.
pub fn run(arguments: &Arguments, command: String) -> io::Result<()> {
    if arguments.list {
        return list();
    }
    if !rustix::process::geteuid().is_root() {
        return Err(io::Error::other("needs root, to mount\nhint: sudo -E env PATH=\"$PATH\" cargo run …"));
    }
    if programs::profile()? == Profile::Debug {
        eprintln!("not a release build: these figures say nothing\nhint: cargo run --release -p benches");
    }
    let chosen = workload::chosen(arguments.workloads.as_deref()).map_err(io::Error::other)?;
    let home = programs::target()?.join("bench");
    fs::create_dir_all(&home)?;
    let plan = Plan {
        workloads: chosen.iter().map(|workload| workload.name.to_owned()).collect(),
        rounds: arguments.rounds.max(1),
        size: if arguments.quick { Size::Quick } else { Size::Full },
        page: if arguments.write { Page::Written } else { Page::Left },
        home: home.canonicalize()?,
        runion: programs::runion()?,
        mount_runionfs: programs::ours()?,
        command,
        with: arguments.with.clone(),
    };
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    inside.arg("--").arg(std::env::current_exe()?).arg(INSIDE).arg(serde_json::to_string(&plan)?);
    sys::die_with_parent(&mut inside);
    let status = inside.stdin(Stdio::null()).status();
    match status.map_err(|e| io::Error::other(format!("cannot run unshare: {e}")))?.success() {
        true => Ok(()),
        false => Err(io::Error::other("the measurements were not finished")),
    }
}

fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for workload in workload::ALL {
        let names: Vec<&str> = workload.clients.iter().map(|client| client.name()).collect();
        writeln!(out, "{:<10} {}\n{:<11}{}", workload.name, workload.about, "", names.join(", "))?;
    }
    Ok(())
}

/// Measures what a plan says, inside of the namespaces, and reports.
///
/// # Errors
/// What keeps the images from being made, or the report from being written; a
/// failed run is a result.
pub fn inside(plan: &str) -> io::Result<()> {
    let plan: Plan = serde_json::from_str(plan)?;
    let workloads: Vec<&Workload> =
        workload::ALL.iter().filter(|workload| plan.workloads.iter().any(|n| n == workload.name)).collect();
    let mut scene = Scene::new(plan.clone())?;
    let mut results = measure(&mut scene, &workloads)?;
    scene.clear()?;
    let mut out = io::stdout().lock();
    let report = page::Report { plan: &plan, workloads: &workloads, results: &results, commands: &[] };
    out.write_all(report.tables().as_bytes())?;
    writeln!(out, "\nraw figures: {}", report.write_raw()?.display())?;
    if plan.page == Page::Left {
        return Ok(());
    }
    let mut commands = vec![plan.command.clone()];
    for path in &plan.with {
        let earlier = Earlier::read(path)?;
        commands.push(earlier.command);
        results.add_earlier(earlier.results);
    }
    let workloads: Vec<&Workload> = workload::ALL.iter().filter(|w| results.has(w.name)).collect();
    page::Report { plan: &plan, workloads: &workloads, results: &results, commands: &commands }
        .write(&programs::workspace().join("benches"))
}

/// For each workload, for each round, every candidate in turn, in another
/// order each round.
fn measure(scene: &mut Scene, workloads: &[&Workload]) -> io::Result<Results> {
    let mut results = Results::default();
    for (number, workload) in workloads.iter().enumerate() {
        let rounds = if workload.repeat == workload::Repeat::Once { 1 } else { scene.plan.rounds };
        for round in 0..rounds {
            for client in turns(workload.clients, round) {
                if results.gave_up(workload.name, client.name()) {
                    continue;
                }
                let started = Instant::now();
                let run = play(scene, workload, client);
                eprintln!(
                    "[{}/{}] {} round {}: {}: {} ({:.1} s)",
                    number + 1,
                    workloads.len(),
                    workload.name,
                    round + 1,
                    client.name(),
                    run.outcome,
                    started.elapsed().as_secs_f64()
                );
                results.add(workload.name, client.name(), run);
            }
        }
    }
    Ok(results)
}

fn turns(clients: &[Client], round: usize) -> impl Iterator<Item = Client> {
    let (later, first) = clients.split_at(round % clients.len().max(1));
    first.iter().chain(later).copied()
}

fn play(scene: &mut Scene, workload: &Workload, client: Client) -> Run {
    if let Some(reason) = client.missing() {
        return Run::ended(Outcome::Absent(reason));
    }
    let home = scene.plan.home.to_string_lossy().into_owned();
    let reason = |error: &io::Error| {
        let text = error.to_string().replace(&home, "target/bench");
        text.lines().next().unwrap_or_default().to_owned()
    };
    match (workload.run)(scene, client) {
        Ok(figures) => Run { figures, ..Run::ended(Outcome::Done) },
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            Run::ended(Outcome::Absent(reason(&error)))
        }
        Err(error) => Run::ended(Outcome::Failed(reason(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_begins_once() {
        let clients = [Client::Runion, Client::Podman, Client::Skopeo];
        let firsts: Vec<Client> = (0..3).filter_map(|round| turns(&clients, round).next()).collect();
        assert_eq!(firsts, clients);
        assert_eq!(turns(&clients, 4).collect::<Vec<_>>(), [Client::Podman, Client::Skopeo, Client::Runion]);
    }
}
