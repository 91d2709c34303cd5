//! The file-system engine in process, without a mount: what a daemon does for a
//! request, apart from what the request costs.
//!
//!     cargo bench -p benches
//!
//! Eight layers share one directory of 10,000 names. Looked up are names that
//! are there and names that are not; a new union builds the directory's map of
//! names; a known one lists it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use criterion::{BatchSize, Criterion, Throughput};
use unionfs::inode::{NodeId, ROOT};
use unionfs::{Config, Union};

const LAYERS: usize = 8;
const NAMES: usize = 10_000;

/// The layers, removed at the end.
struct Scene(PathBuf);

impl Scene {
    fn new() -> std::io::Result<Scene> {
        let home = std::env::temp_dir().join(format!("runionfs-engine-{}", std::process::id()));
        for layer in 0..LAYERS {
            fs::create_dir_all(home.join(layer.to_string()).join("flat"))?;
        }
        for number in 0..NAMES {
            fs::write(home.join((number % LAYERS).to_string()).join("flat").join(name(number)), "content\n")?;
        }
        Ok(Scene(home))
    }

    fn union(&self) -> unionfs::Result<Union> {
        let lowers = (0..LAYERS).map(|layer| self.0.join(layer.to_string())).collect();
        Union::open(Config { lowers, ..Config::default() })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn name(number: usize) -> OsString {
    format!("name-{number:05}").into()
}

/// The node of the large directory.
fn flat(union: &Union) -> unionfs::Result<NodeId> {
    Ok(union.lookup(ROOT, OsStr::new("flat"))?.id)
}

fn lookups(criterion: &mut Criterion, union: &Union, dir: NodeId) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    let mut next = 0;
    group.bench_function("present, forgotten before", |bencher| {
        bencher.iter_batched(
            || {
                next = (next + 7919) % NAMES;
                name(next)
            },
            |name| {
                let entry = union.lookup(dir, &name).ok();
                if let Some(entry) = &entry {
                    union.forget(entry.id, 1);
                }
                black_box(entry.is_some())
            },
            BatchSize::SmallInput,
        );
    });
    let known = name(4711);
    let held = union.lookup(dir, &known).ok();
    group.bench_function("present, known", |bencher| {
        bencher.iter(|| {
            let entry = union.lookup(dir, &known).ok();
            if let Some(entry) = &entry {
                union.forget(entry.id, 1);
            }
            black_box(entry.is_some())
        });
    });
    if let Some(held) = held {
        union.forget(held.id, 1);
    }
    group.bench_function("absent", |bencher| {
        bencher.iter(|| black_box(union.lookup(dir, OsStr::new("absent")).is_err()));
    });
    group.finish();
}

fn listings(criterion: &mut Criterion, scene: &Scene, union: &Union, dir: NodeId) {
    let mut group = criterion.benchmark_group("directory");
    group.throughput(Throughput::Elements(NAMES as u64)).sample_size(20);
    group.bench_function("map of names, built", |bencher| {
        bencher.iter_batched(
            || {
                let union = scene.union().ok()?;
                let dir = flat(&union).ok()?;
                Some((union, dir))
            },
            |fresh| {
                // The first name that is asked for makes the map.
                let absent =
                    fresh.as_ref().map(|(union, dir)| union.lookup(*dir, OsStr::new("absent")).is_err());
                (black_box(absent), fresh)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("listed", |bencher| {
        bencher.iter(|| black_box(union.list(dir).map(|entries| entries.from_offset(0).count()).ok()));
    });
    group.finish();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    let scene = Scene::new()?;
    let union = scene.union()?;
    let dir = flat(&union)?;
    let listed = union.list(dir)?.from_offset(0).count();
    if listed < NAMES {
        return Err(format!("listed {listed} names of {NAMES}").into());
    }
    lookups(&mut criterion, &union, dir);
    listings(&mut criterion, &scene, &union, dir);
    criterion.final_summary();
    Ok(())
}
