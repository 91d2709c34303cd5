//! Random programs on our mount and on kernel overlayfs: every answer, every
//! tree, and each one's upper mounted by the other.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `DIFF_SEED` | replay this seed alone | |
//! | `DIFF_FIRST` | the first seed | 1 |
//! | `DIFF_SEEDS` | how many seeds at most | 100; as time allows if `DIFF_MINUTES` is given |
//! | `DIFF_OPS` | operations for a seed | 800 |
//! | `DIFF_MINUTES` | when to stop | 1 |
//! | `DIFF_FAILURES` | failing seeds to shorten and print before giving up | 3 |
//! | `DIFF_SURVEY` | shorten nothing; count the failures by kind, over all seeds | |
//! | `DIFF_LEFT`, `DIFF_RIGHT` | `kernel`, `runionfs` or `fuse-overlayfs` | `kernel`, `runionfs` |
//! | `DIFF_BACKING` | `tmpfs` or `ext4` for every seed | three of four on tmpfs |

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tests::differential::generate;
use tests::differential::run::{Difference, Report, Setting, run};
use tests::differential::shrink::{readable, shrink};
use tests::mount::Driver;
use tests::scratch::Backing;

/// How long one failing case is shortened.
const SHRINKING: Duration = Duration::from_secs(60);

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not understood")))
}

fn driver(name: &str, default: Driver) -> Driver {
    match std::env::var(name).ok().as_deref() {
        None => default,
        Some("kernel") => Driver::Kernel,
        Some("runionfs") => Driver::Runionfs,
        Some("fuse-overlayfs") => Driver::FuseOverlayfs,
        Some(other) => panic!("{name}={other} is no driver"),
    }
}

fn setting(seed: u64) -> Setting {
    let backing = match std::env::var("DIFF_BACKING").ok().as_deref() {
        Some("tmpfs") => Backing::Tmpfs,
        Some("ext4") => Backing::Ext4(64),
        Some(other) => panic!("DIFF_BACKING={other} is no backing"),
        None if seed.is_multiple_of(4) => Backing::Ext4(64),
        None => Backing::Tmpfs,
    };
    Setting {
        left: driver("DIFF_LEFT", Driver::Kernel),
        right: driver("DIFF_RIGHT", Driver::Runionfs),
        backing,
    }
}

/// Client and daemon on one processor: a wake-up across two costs more than
/// the operation.
fn pin(seed: u64) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = rustix::thread::CpuSet::new();
    set.set(seed as usize % cpus);
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}

fn report_failure(seed: u64, length: usize, difference: &Difference) {
    println!("\nseed {seed}, operation {}: {}", difference.index, difference.what);
    println!("  expected {}\n  got      {}", difference.left, difference.right);
    let shrunk = shrink(&generate::case(seed, length), difference, setting(seed), SHRINKING);
    println!("  shortened to:\n{}", readable(&shrunk.case));
    println!("  expected {}\n  got      {}", shrunk.difference.left, shrunk.difference.right);
    println!(
        "  replay: DIFF_SEED={seed} DIFF_OPS={length} cargo test -p tests --test differential -- --nocapture"
    );
}

#[test]
fn random_programs_agree() {
    let length = variable("DIFF_OPS").unwrap_or(800);
    let single: Option<u64> = variable("DIFF_SEED");
    let first = single.or(variable("DIFF_FIRST")).unwrap_or(1);
    // Without a wish for more, the same programs on every machine.
    let as_time_allows = std::env::var_os("DIFF_MINUTES").is_some();
    let default = if as_time_allows { u64::MAX } else { 100 };
    let seeds = if single.is_some() { 1 } else { variable("DIFF_SEEDS").unwrap_or(default) };
    let limit = Duration::from_secs_f64(variable("DIFF_MINUTES").unwrap_or(1.0) * 60.0);
    let failures_wanted: usize = variable("DIFF_FAILURES").unwrap_or(3);
    let start = Instant::now();
    let (mut operations, mut cases, mut empty, mut failures) = (0, 0, 0, 0);
    let survey = std::env::var_os("DIFF_SURVEY").is_some();
    let mut deviations: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kinds: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for seed in first..first.saturating_add(seeds) {
        if start.elapsed() > limit || (failures >= failures_wanted && !survey) {
            break;
        }
        pin(seed);
        let case = generate::case(seed, length);
        let Report { operations: executed, deviations: met, difference } =
            run(&case, setting(seed)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        operations += executed;
        cases += 1;
        empty += usize::from(executed == 0);
        for deviation in met {
            *deviations.entry(deviation).or_default() += 1;
        }
        if let Some(difference) = difference {
            failures += 1;
            if survey {
                kinds.entry(difference.signature).or_default().push(seed);
            } else {
                report_failure(seed, length, &difference);
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "differential: {operations} operations, {cases} seeds from {first} ({empty} with layers the kernel cannot \
         walk), {failures} failed, {:.0} operations a second",
        operations as f64 / seconds
    );
    for (deviation, times) in deviations {
        println!("  deviation, {times} times: {deviation}");
    }
    for (kind, seeds) in kinds {
        println!("  {} seeds: {kind}: {:?}", seeds.len(), &seeds[..seeds.len().min(5)]);
    }
    assert_eq!(failures, 0, "seeds that failed");
    assert!(operations > 0, "nothing was compared");
}
