//! Measures whole mounts of runionfs side by side with their peers.
//!
//!     cargo run --release -p benches -- --workloads stat-walk,storm --candidates overlay,ours --rounds 3
//!
//! For each workload, for each round, every candidate takes its turn on a fresh
//! mount over fresh upper directories, in a worker process with namespaces of
//! its own. Printed are medians, spreads and ratios to the bare directory, to
//! kernel overlayfs and to fuse-overlayfs 2.0.0; `README.md` says how to read
//! them. Raw figures go to `target/bench/`.
//!
//! | module | what |
//! |---|---|
//! | `cli` | the command line |
//! | `candidate` | who is measured: one table |
//! | `workload` | what is measured: one table, one function each |
//! | `layers` | the trees below the unions, made once |
//! | `session` | the loop over workloads, rounds and candidates; the watchdog |
//! | `plan` | what runner and worker tell each other |
//! | `worker`, `stage` | one run: namespaces, the mount, the clock, the daemon |
//! | `figure`, `results` | units, medians, ratios |
//! | `report` | tables, raw figures, `RESULTS.md`, plots |
//! | `images` | another session: stores of images, and mounts of images |
//! | `programs`, `uring` | what must be there, and what must be switched on |
//! | `sys` | the only unsafe |

mod candidate;
mod cli;
mod errors;
mod figure;
mod images;
mod layers;
mod plan;
mod programs;
mod report;
mod results;
mod session;
mod size;
mod stage;
mod sys;
mod uring;
mod walk;
mod worker;
mod workload;

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [worker::WORKER, plan] => worker::work(plan),
        [worker::MAP_IDS] => worker::map_ids(),
        [images::INSIDE, plan] => images::inside(plan),
        [images::COMMIT, store, image, upper] => images::commit(store, image, upper),
        _ => cli::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error}");
            ExitCode::FAILURE
        }
    }
}
