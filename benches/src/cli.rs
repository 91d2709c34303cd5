//! The command line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::candidate::{self, Candidate};
use crate::images;
use crate::plan::{Caches, Pass, Placement, Plan, Upper};
use crate::programs::{self, Profile};
use crate::report;
use crate::results::Earlier;
use crate::session::Session;
use crate::size::Sizes;
use crate::workload::{self, Workload};

/// Measures whole mounts of runionfs side by side with their peers.
#[derive(Parser)]
#[command(name = "benches", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    subject: Option<Subject>,
    /// Only these candidates, parted by commas; NAME:OPTION+OPTION adds mount options
    #[arg(long, value_name = "NAMES")]
    candidates: Option<String>,
    /// Only these workloads, parted by commas: names, beginnings of names, or groups
    #[arg(long, value_name = "NAMES")]
    workloads: Option<String>,
    /// How often each candidate plays each workload
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Small trees and short loops, for a first look
    #[arg(long)]
    quick: bool,
    /// Keep client and daemon on one CPU
    #[arg(long)]
    one_cpu: bool,
    /// What the upper layer lies on
    #[arg(long, value_enum, default_value = "tmpfs")]
    upper: Upper,
    /// Drop names and attributes of the layers from the kernel's caches before each mount
    #[arg(long)]
    drop_caches: bool,
    /// How long one run may take, seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    limit: u64,
    /// Count the daemons' system calls by strace, one round; the timings are worthless then
    #[arg(long)]
    syscalls: bool,
    /// Write benches/RESULTS.md and its plots
    #[arg(long)]
    write: bool,
    /// Show the raw figures of an earlier run, too, of workloads that this one leaves out
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Show candidates and workloads, and measure nothing
    #[arg(long)]
    list: bool,
    /// Install what is missing first: Debian packages as root, fuse-overlayfs 2.0.0 below target
    #[arg(long)]
    install: bool,
}

/// What is measured in the place of mounts of directories.
#[derive(Subcommand)]
enum Subject {
    Images(images::Arguments),
}

/// Does what the command line says.
///
/// # Errors
/// A sentence for the user.
pub fn run() -> io::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Subject::Images(arguments)) = &arguments.subject {
        return images::run(arguments, typed());
    }
    if arguments.list {
        return list();
    }
    if arguments.install {
        programs::install()?;
    }
    if programs::profile()? == Profile::Debug {
        eprintln!("not a release build: these figures say nothing\nhint: cargo run --release -p benches");
    }
    let mut session = session(&arguments)?;
    let mut results = session.run()?;
    let command = typed();
    let mut out = io::stdout().lock();
    out.write_all(report::tables(&session, &results).as_bytes())?;
    let raw = report::write_raw(&session, &results, &command, &session.plan.home)?;
    writeln!(out, "\nraw figures: {}", raw.display())?;
    if !arguments.write {
        return Ok(());
    }
    let mut commands = vec![command];
    for path in &arguments.with {
        let earlier = Earlier::read(path)?;
        commands.push(earlier.command);
        results.add_earlier(earlier.results);
    }
    session.workloads = workload::all().filter(|workload| results.has(workload.name)).collect();
    let known = results.candidates().join(",");
    session.candidates = candidate::parse_list(&known).map_err(io::Error::other)?;
    report::write_page(&session, &results, &commands, &programs::workspace().join("benches"))
}

fn session(arguments: &Arguments) -> io::Result<Session> {
    if !rustix::process::geteuid().is_root() {
        return Err(io::Error::other("needs root, to mount\nhint: sudo -E env PATH=\"$PATH\" cargo run …"));
    }
    let candidates = match &arguments.candidates {
        Some(names) => candidate::parse_list(names).map_err(io::Error::other)?,
        None => candidate::usual(),
    };
    let workloads: Vec<&'static Workload> = match &arguments.workloads {
        Some(names) => workload::parse_list(names).map_err(io::Error::other)?,
        None => workload::all().collect(),
    };
    let Some(first) = candidates.first() else {
        return Err(io::Error::other("no candidates"));
    };
    let plan = plan(arguments, first)?;
    // Counting disturbs, and counts are the same every time.
    let rounds = if arguments.syscalls { 1 } else { arguments.rounds.max(1) };
    let limit = Duration::from_secs(arguments.limit);
    Ok(Session { workloads, candidates, rounds, limit, plan })
}

fn plan(arguments: &Arguments, candidate: &Candidate) -> io::Result<Plan> {
    let home = programs::target()?.join("bench");
    std::fs::create_dir_all(&home)?;
    Ok(Plan {
        candidate: candidate.clone(),
        workload: String::new(),
        sizes: if arguments.quick { Sizes::QUICK } else { Sizes::FULL },
        placement: if arguments.one_cpu { Placement::OneCpu } else { Placement::Free },
        upper: arguments.upper,
        caches: if arguments.drop_caches { Caches::NamesDropped } else { Caches::Warm },
        pass: if arguments.syscalls { Pass::Syscalls } else { Pass::Time },
        home: home.canonicalize()?,
        ours: programs::ours()?,
        fuse_overlayfs_2: programs::fuse_overlayfs_2()?,
    })
}

fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "candidates:")?;
    for (name, text) in candidate::described() {
        writeln!(out, "  {name:<26} {text}")?;
    }
    writeln!(out, "workloads:")?;
    for workload in workload::all() {
        writeln!(out, "  {:<16} {:<9} {}", workload.name, workload.group.name(), workload.about)?;
    }
    Ok(())
}

/// The command that makes these figures again.
fn typed() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release -p benches -- {}", arguments.join(" ")).trim_end().to_owned()
}
