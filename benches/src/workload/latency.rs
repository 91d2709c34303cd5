//! What others wait for while a large file is copied up.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::figure::{Unit, percentile};
use crate::layers::{Tree, small::path_of};
use crate::stage::Stage;
use crate::walk;

pub const WORKLOADS: &[Workload] = &[Workload {
    name: "copy-up-latency",
    group: Group::Load,
    about: "two clients stat new names, alone and while a third appends to a lower file of 1 GiB",
    tree: Tree::Mixed,
    lowers: LOWERS,
    bare: Bare::Copy,
    needs: Needs::Layers,
    repeat: Repeat::EachRound,
    run,
}];

const CLIENTS: usize = 2;

/// How long clients go on.
enum Until<'a> {
    /// Each has asked so often.
    Count(usize),
    /// Somebody says so.
    Told(&'a AtomicBool),
}

fn run(stage: &mut Stage) -> io::Result<()> {
    let sizes = stage.sizes();
    let root = stage.mount()?;
    let names = Names { files: sizes.small_files, next: AtomicUsize::new(0), root: walk::open(&root)? };
    let alone = stat_by_clients(&names, &Until::Count(sizes.latency_operations / CLIENTS))?;
    report(stage, "alone", alone)?;
    let done = AtomicBool::new(false);
    let (appended, meanwhile) = std::thread::scope(|scope| {
        let others = scope.spawn(|| stat_by_clients(&names, &Until::Told(&done)));
        let appended = append(&root.join("big"));
        done.store(true, Ordering::Relaxed);
        (appended, others.join().unwrap_or_else(|_| Err(io::Error::other("a client panicked"))))
    });
    report(stage, "meanwhile", meanwhile?)?;
    stage.report("the append", Unit::Seconds, appended?.as_secs_f64())
}

fn append(big: &Path) -> io::Result<Duration> {
    let started = Instant::now();
    File::options().append(true).open(big)?.write_all(b"x")?;
    Ok(started.elapsed())
}

/// Names nobody has asked for: the small files, then absent ones, of which there
/// is no end.
struct Names {
    files: usize,
    next: AtomicUsize,
    root: OwnedFd,
}

impl Names {
    fn stat_next(&self) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = if number < self.files {
            path_of(number)
        } else {
            format!("tree/dir-{:03}/absent-{number}", number % (self.files / 100))
        };
        match statat(&self.root, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The seconds that each stat took.
fn stat_by_clients(names: &Names, until: &Until<'_>) -> io::Result<Vec<f64>> {
    let client = || {
        let mut taken = Vec::new();
        while match until {
            Until::Count(count) => taken.len() < *count,
            Until::Told(done) => !done.load(Ordering::Relaxed),
        } {
            let started = Instant::now();
            names.stat_next()?;
            taken.push(started.elapsed().as_secs_f64());
        }
        Ok::<_, io::Error>(taken)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().unwrap_or_else(|_| Err(io::Error::other("a client panicked")))?);
        }
        Ok(all)
    })
}

fn report(stage: &Stage, when: &str, mut taken: Vec<f64>) -> io::Result<()> {
    taken.sort_by(f64::total_cmp);
    for percent in [50, 99, 100] {
        if let Some(value) = percentile(&taken, percent) {
            let name = if percent == 100 { "most".to_owned() } else { format!("p{percent}") };
            stage.report(&format!("{name} {when}"), Unit::SecondsEach, value)?;
        }
    }
    Ok(())
}
