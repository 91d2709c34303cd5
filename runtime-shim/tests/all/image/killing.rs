//! `rmi` and `prune`, killed at any system call: what is left is whole, nothing
//! is gone that was not to go, and the command, given again, leaves no garbage.
//!
//! strace kills, as in the tests of the store, which step through its calls alone:
//! here it is the command from its first call to its last. In the gate some 60
//! steps of each are taken, evenly; `RUNION_TESTS_KILLS=all` takes every one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use layerstore::store::{Repair, Store as Opened};

use super::store::{Store, has, tool};
use crate::setup::{stderr, stdout};

const CALLS: &str = "openat,read,write,writev,pwrite64,getdents64,ftruncate,mkdir,mkdirat,link,linkat,rename,renameat,\
                     renameat2,unlink,unlinkat,rmdir,fsync,fdatasync,syncfs,flock";

const STEPS: usize = 60;

/// Images by their ids, with their names.
type Images = BTreeMap<String, Vec<String>>;

#[test]
fn rmi_killed_at_any_system_call() {
    killed(&["rmi", "two:1", "two:2"]);
}

#[test]
fn prune_killed_at_any_system_call() {
    killed(&["prune", "-a", "-f"]);
}

fn killed(arguments: &[&str]) {
    if !has("strace") {
        return;
    }
    let store = Store::new(arguments[0]);
    let (shared, own) = ("shared ".repeat(200), "own ".repeat(1000));
    store.import("one", &[("shared", &shared)], &[]);
    store.import("two:1", &[("shared", &shared), ("own", &own)], &[]);
    store.ok(&["tag", "two:1", "two:2"]);
    store.import("", &[("of/none", &own)], &[]);
    let before = images(&store.path());
    let done = copy(&store, "done");
    let log = store.scratch.join("log");
    let record = ["-o", log.to_str().unwrap(), "-e", &format!("trace={CALLS}")];
    let status = traced(&done, &record, arguments);
    if log.metadata().map_or(0, |log| log.len()) == 0 {
        println!("skipped: strace may not trace");
        return;
    }
    assert!(status.success());
    let after = images(&done);
    command(&done, &["prune", "-f"]);
    let left = files(&done);
    let steps = steps(&std::fs::read_to_string(&log).unwrap());
    let all = std::env::var_os("RUNION_TESTS_KILLS").is_some();
    let stride = if all { 1 } else { steps.len().div_ceil(STEPS) };
    let (mut taken, mut died) = (0, 0);
    for (number, (call, at)) in steps.iter().enumerate().step_by(stride) {
        let place = copy(&store, &number.to_string());
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={at}"));
        let status = traced(&place, &["-o", "/dev/null", "-e", &trace, "-e", &inject], arguments);
        taken += 1;
        died += usize::from(!status.success());
        let step = format!("{arguments:?}, {call} {at}");
        // No image is half gone, and none that was to stay.
        assert_clean(&place, &step);
        let now = images(&place);
        assert!(now.keys().all(|id| before.contains_key(id)), "{step}: {now:?}");
        assert!(after.iter().all(|(id, names)| now.get(id) == Some(names)), "{step}: {now:?}");
        let again = command(&place, arguments);
        let (said, only_missing) = (stderr(&again), now == after || arguments[0] == "rmi");
        let is_missing = |line: &str| line.starts_with("Error: No such image: two:");
        assert!(again.status.success() || only_missing && said.lines().all(is_missing), "{step}: {said}");
        assert_eq!(images(&place), after, "{step}");
        let pruned = command(&place, &["prune", "-f"]);
        assert!(pruned.status.success(), "{step}: {}{}", stdout(&pruned), stderr(&pruned));
        assert_clean(&place, &step);
        assert_eq!(files(&place), left, "{step}");
        std::fs::remove_dir_all(place).unwrap();
    }
    println!("{arguments:?}: killed at {died} of {taken} steps, of {} that there are", steps.len());
    assert!(died * 10 >= taken * 9, "{arguments:?}: {died} of {taken}");
}

fn copy(store: &Store, name: &str) -> PathBuf {
    let place = store.scratch.join(name);
    tool("cp", &["-a", store.path().to_str().unwrap(), place.to_str().unwrap()]);
    place
}

fn runion(store: &Path, arguments: &[&str]) -> Vec<String> {
    let words = [env!("CARGO_BIN_EXE_runion"), "--root", store.to_str().unwrap()];
    words.iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

fn command(store: &Path, arguments: &[&str]) -> std::process::Output {
    let words = runion(store, arguments);
    Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap()
}

fn traced(store: &Path, options: &[&str], arguments: &[&str]) -> ExitStatus {
    // It complains of a process that dies under its hands.
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qqq"]).args(options).arg("--").args(runion(store, arguments));
    strace.stdin(Stdio::null()).output().unwrap().status
}

/// The calls of a record: each one's name, and the number it has among its thread's,
/// by which strace counts.
fn steps(log: &str) -> BTreeSet<(String, u32)> {
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut steps = BTreeSet::new();
    for line in log.lines().filter(|line| !line.contains(" resumed>")) {
        let (thread, rest) = line.split_once(char::is_whitespace).unwrap();
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if CALLS.split(',').any(|wanted| wanted == call) {
            let count = counts.entry((thread, call)).or_default();
            *count += 1;
            steps.insert((call.to_owned(), *count));
        }
    }
    steps
}

fn images(store: &Path) -> Images {
    let images = Opened::open(store).unwrap().images().unwrap();
    let named = images.iter().map(|image| {
        let mut names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
        names.sort();
        (image.id().to_string(), names)
    });
    named.collect()
}

#[track_caller]
fn assert_clean(store: &Path, step: &str) {
    assert_eq!(Opened::open(store).unwrap().fsck(Repair::No).unwrap(), Vec::new(), "{step}");
}

/// What is stored, but for locks.
fn files(store: &Path) -> BTreeSet<PathBuf> {
    let listed = tool("find", &[store.to_str().unwrap(), "-type", "f", "!", "-name", "*.lock"]);
    let kept = ["images", "blobs", "layers", "indexes", "objects", "tmp"];
    let inside = listed.lines().map(|path| Path::new(path).strip_prefix(store).unwrap().to_owned());
    inside.filter(|path| kept.iter().any(|dir| path.starts_with(dir))).collect()
}
