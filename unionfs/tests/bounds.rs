//! What is kept in memory or open is bounded, and made again when it is needed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Mutex;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use unionfs::Union;
use unionfs::config::{Config, UpperDirs};
use unionfs::inode::{NodeId, ROOT};
use unionfs::ops::{Caller, Make, Names, OpenFor, SetId};

#[allow(dead_code)] // Shared with the crate's own tests, which need more of it.
#[path = "../src/sys/scratch.rs"]
mod scratch;
use scratch::Scratch;

/// One test at a time: limits and descriptors are the process's.
static ALONE: Mutex<()> = Mutex::new(());

const CALLER: Caller = Caller { uid: 0, gid: 0, umask: 0o022 };
const DIRECTORIES: usize = 300;
const FILES: usize = 4;
const LOWERS: usize = 2;

/// Every directory is in both lowers, with files in each.
fn layers(scratch: &Scratch) -> Config {
    let dir = |name: String| -> PathBuf {
        let path = scratch.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let lowers: Vec<_> = (0..LOWERS).map(|layer| dir(format!("lower{layer}"))).collect();
    for (layer, path) in lowers.iter().enumerate() {
        for index in 0..DIRECTORIES {
            let path = path.join(format!("dir{index}"));
            std::fs::create_dir(&path).unwrap();
            (0..FILES).for_each(|file| std::fs::write(path.join(format!("{layer}-{file}")), "x").unwrap());
        }
    }
    let upper = UpperDirs { upper: dir("upper".into()), work: dir("work".into()) };
    Config { lowers, upper: Some(upper), ..Config::default() }
}

fn find(union: &Union, parent: NodeId, name: &str) -> Option<NodeId> {
    match union.lookup(parent, OsStr::new(name)) {
        Ok(entry) => Some(entry.id),
        Err(error) if error.errno() == Errno::NOENT => None,
        Err(error) => panic!("{name}: {error}"),
    }
}

fn kept_names(union: &Union) -> usize {
    let json = union.stats_json();
    let rest = json.split("\"cached_names\":").nth(1).unwrap();
    rest.trim_end_matches('}').parse().unwrap()
}

fn listed(union: &Union, dir: NodeId) -> Vec<String> {
    let entries = union.list(dir).unwrap();
    let names =
        entries.from_offset(2).map(|entry| OsStr::from_bytes(entry.name).to_str().unwrap().to_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn names_are_given_up_and_listed_again() {
    let _alone = ALONE.lock();
    let scratch = Scratch::on("/dev/shm", "bounds");
    let config = Config { dir_cache: 1_000, ..layers(&scratch) };
    let union = Union::open(config).unwrap();
    let dirs: Vec<_> =
        (0..DIRECTORIES).map(|index| find(&union, ROOT, &format!("dir{index}")).unwrap()).collect();
    for (index, dir) in dirs.iter().enumerate() {
        union.make(*dir, OsStr::new("made"), Make::File { mode: 0o644 }, CALLER).unwrap();
        union.unlink(Names { parent: *dir, name: OsStr::new("0-0") }).unwrap();
        union.unlink(Names { parent: *dir, name: OsStr::new("1-1") }).unwrap();
        // The root's are used all along; the directory's own are in use.
        let most = 1_000 + DIRECTORIES + LOWERS * FILES + 3;
        assert!(kept_names(&union) <= most, "{} names after {index} directories", kept_names(&union));
    }
    for dir in &dirs {
        assert_eq!(find(&union, *dir, "0-0"), None);
        assert_eq!(find(&union, *dir, "1-1"), None);
        assert!(find(&union, *dir, "made").is_some());
        assert_eq!(listed(&union, *dir), ["0-1", "0-2", "0-3", "1-0", "1-2", "1-3", "made"]);
    }
}

#[test]
fn a_large_directory_is_listed_when_that_was_paid_for() {
    const LARGE: usize = 1_500;
    let _alone = ALONE.lock();
    let scratch = Scratch::on("/dev/shm", "bounds");
    let config = layers(&scratch);
    for (layer, path) in config.lowers.iter().enumerate() {
        let large = path.join("large");
        std::fs::create_dir(&large).unwrap();
        (0..LARGE).for_each(|file| std::fs::write(large.join(format!("{layer}-{file}")), "x").unwrap());
    }
    let union = Union::open(config).unwrap();
    let large = find(&union, ROOT, "large").unwrap();
    let of_the_root = kept_names(&union);
    let ask = |number: usize| {
        assert!(find(&union, large, &format!("1-{number}")).is_some());
        assert_eq!(find(&union, large, &format!("2-{number}")), None);
    };
    (0..10).for_each(ask);
    union.make(large, OsStr::new("made"), Make::File { mode: 0o644 }, CALLER).unwrap();
    union.unlink(Names { parent: large, name: OsStr::new("0-1") }).unwrap();
    assert_eq!(find(&union, large, "0-1"), None);
    assert_eq!(kept_names(&union), of_the_root, "few names are not worth a listing");

    // After so many it is listed.
    (10..100).for_each(ask);
    assert_eq!(kept_names(&union), of_the_root + 2 * LARGE + 1);
    let names = listed(&union, large);
    assert_eq!(names.len(), 2 * LARGE);
    assert!(names.contains(&"made".to_owned()) && !names.contains(&"0-1".to_owned()));
}

/// How many descriptors this process has.
fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn descriptors_stay_well_below_the_limit() {
    let _alone = ALONE.lock();
    let scratch = Scratch::on("/dev/shm", "bounds");
    let config = layers(&scratch);
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..limit }).unwrap();
    let union = Union::open(config).unwrap();
    for round in 0..2 {
        for index in 0..DIRECTORIES {
            let dir = find(&union, ROOT, &format!("dir{index}")).unwrap();
            assert!(find(&union, dir, "1-3").is_some(), "round {round}, directory {index}");
            assert_eq!(listed(&union, dir).len(), LOWERS * FILES);
        }
    }
    // A quarter is the directories'; the rest of it is the test's own.
    assert!(open() < 128, "{} descriptors are open", open());
    let before = open();
    let mut files = Vec::new();
    for index in 0..DIRECTORIES {
        let Ok(dir) = union.lookup(ROOT, OsStr::new(&format!("dir{index}"))) else { break };
        let Ok(file) = union.lookup(dir.id, OsStr::new("0-0")) else { break };
        if union.open_file(file.id, OpenFor::Reading, CALLER).is_err() {
            break;
        }
        files.push(file.id);
    }
    assert!(files.len() + before > 256, "directories make room: {} files and {before}", files.len());
    files.into_iter().for_each(|file| union.release(file));
    rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
}

/// Where opens are spared the kernel does not tell when what it created is closed.
#[test]
fn files_that_are_made_do_not_stay_open() {
    const KEPT: usize = 16;
    let _alone = ALONE.lock();
    let scratch = Scratch::on("/dev/shm", "bounds");
    let union = Union::open(layers(&scratch)).unwrap();
    union.spare_opens(KEPT);
    let dir = find(&union, ROOT, "dir0").unwrap();
    let name = |file: usize| format!("0-{file}");
    // Some of them over whiteouts, which is another way of making files.
    (0..FILES).for_each(|file| {
        union.unlink(Names { parent: dir, name: OsStr::new(&name(file)) }).unwrap();
    });
    let before = open();
    let write = |node: NodeId, text: &[u8]| union.write(node, 0, text, SetId::Keep, CALLER).unwrap();
    let made: Vec<_> = (0..10 * KEPT)
        .map(|file| {
            let (entry, _) = union.create(dir, OsStr::new(&name(file)), 0o644, CALLER).unwrap();
            write(entry.id, b"first");
            entry.id
        })
        .collect();
    assert!(open() <= before + KEPT, "{} descriptors, {before} before", open());
    for node in &made {
        write(*node, b"later");
        let mut read = [0; 8];
        assert_eq!((union.read(*node, 0, &mut read).unwrap(), &read[..5]), (5, &b"later"[..]));
    }
    assert!(open() <= before + KEPT, "{} descriptors, {before} before", open());
}
