//! Killed at any system call, an action leaves the store as it was or as it is to
//! be; done again it succeeds, and a collection leaves nothing.
//!
//! strace kills: at the n-th call of a kind, before the kernel does it. The calls
//! that change a directory or a file, or wait for a disk, a lock or a network, are all
//! there is to tell apart. `LAYERSTORE_TESTS_KILLS=all` takes every step.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use layerstore::store::Store;

use crate::actions::{Action, READY, assert_old_or_new};
use crate::state::{Scratch, State, assert_clean, assert_no_garbage, copy, state};

const CALLS: &str = "openat,write,writev,pwrite64,copy_file_range,ftruncate,fchmod,mkdir,mkdirat,link,linkat,\
                     rename,renameat,renameat2,unlink,unlinkat,rmdir,fsync,fdatasync,syncfs,flock,connect,sendto,\
                     recvfrom";

/// So many steps of one action are taken, evenly, if there are more.
const STEPS: usize = 40;

/// Whether strace is here and may trace; says so otherwise.
fn has_strace() -> bool {
    let traced = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let has_it = traced.is_ok_and(|output| output.status.success());
    if !has_it {
        println!("skipped: no strace, or it may not trace");
    }
    has_it
}

#[test]
fn killed_while_loading() {
    killed_while(Action::Load);
}

#[test]
fn killed_while_loading_another() {
    killed_while(Action::LoadOther);
}

#[test]
fn killed_while_adding() {
    killed_while(Action::Add);
}

#[test]
fn killed_while_pulling() {
    killed_while(Action::Pull);
}

#[test]
fn killed_while_committing() {
    killed_while(Action::Commit);
}

#[test]
fn killed_while_tagging() {
    killed_while(Action::Tag);
}

#[test]
fn killed_while_removing() {
    killed_while(Action::Remove);
}

#[test]
fn killed_while_collecting() {
    killed_while(Action::Collect);
}

fn killed_while(action: Action) {
    if !has_strace() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.join("begin");
    let before = state(&action.prepare(&root));
    let steps = steps(action, &scratch, &root);
    let all = std::env::var_os("LAYERSTORE_TESTS_KILLS").is_some();
    let stride = if all { 1 } else { steps.len().div_ceil(STEPS) };
    let mut killed = 0;
    for (number, (call, at)) in steps.iter().enumerate().step_by(stride) {
        let place = scratch.join(&format!("{number}"));
        copy(&root, &place);
        std::fs::copy(root.with_extension("archive"), place.with_extension("archive")).unwrap();
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={at}"));
        let status = traced(action, &place, &["-o", "/dev/null", "-e", &trace, "-e", &inject]);
        killed += usize::from(!status.success());
        println!("{action:?}: {call} {at}: {status}");
        check(action, &place, &before, number % 2 == 0);
        std::fs::remove_dir_all(&place).unwrap();
    }
    // Threads come to their calls in an order of their own.
    let taken = steps.len().div_ceil(stride);
    println!("{action:?}: killed at {killed} of {taken} steps, of {} that there are", steps.len());
    assert!(killed * 10 >= taken * 9, "{action:?}: {killed} of {taken}");
}

fn check(action: Action, root: &Path, before: &State, collect_first: bool) {
    let after = action.after();
    let store = Store::open(root).unwrap();
    assert_clean(&store);
    assert_old_or_new(&store, before, &after);
    if collect_first {
        assert_no_garbage(&store);
        assert_old_or_new(&store, before, &after);
    }
    action.run(&store).unwrap();
    assert_eq!(state(&store), after);
    assert_clean(&store);
    assert_no_garbage(&store);
}

/// The calls of an action: each call's name, and the number it has among its
/// thread's, by which strace counts.
///
/// On a busy machine strace was seen to miss the thread that acts: whoever acts
/// takes a lock, so a record without one is of the others only.
fn steps(action: Action, scratch: &Scratch, root: &Path) -> BTreeSet<(String, u32)> {
    let mut records = (0..5).map(|_| record(action, scratch, root));
    let is_whole = |steps: &BTreeSet<(String, u32)>| steps.iter().any(|(call, _)| call == "flock");
    records.find(is_whole).expect("strace sees who acts")
}

fn record(action: Action, scratch: &Scratch, root: &Path) -> BTreeSet<(String, u32)> {
    let (place, log) = (scratch.join("recorded"), scratch.join("log"));
    copy(root, &place);
    std::fs::copy(root.with_extension("archive"), place.with_extension("archive")).unwrap();
    let status = traced(action, &place, &["-o", log.to_str().unwrap(), "-e", &format!("trace={CALLS}")]);
    assert!(status.success(), "{status}");
    assert_eq!(state(&Store::open(&place).unwrap()), action.after());
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut steps = BTreeSet::new();
    let log = std::fs::read_to_string(log).unwrap();
    for line in log.lines().filter(|line| !line.contains(" resumed>")) {
        let (thread, rest) = line.split_once(char::is_whitespace).unwrap();
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        // It shows calls that are newer than itself whatever is asked for.
        if !CALLS.split(',').any(|wanted| wanted == call) {
            continue;
        }
        let count = counts.entry((thread, call)).or_default();
        *count += 1;
        steps.insert((call.to_owned(), *count));
    }
    std::fs::remove_dir_all(place).unwrap();
    steps
}

/// Does it in a process that strace traces from its beginning: the calls that
/// start a program are none of ours, and would be counted.
fn traced(action: Action, root: &Path, options: &[&str]) -> ExitStatus {
    let mut child = action.command(root).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(READY)));
    // With --seccomp-bpf strace 6.1 counts wrong.
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qqq", "-p", &child.id().to_string()]).args(options).stderr(Stdio::piped());
    let strace = strace.spawn().unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    let is_traced = |task: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        !status.contains("TracerPid:\t0\n")
    };
    let begin = Instant::now();
    while !std::fs::read_dir(&tasks).unwrap().all(is_traced) {
        assert!(begin.elapsed() < Duration::from_secs(60), "strace {options:?} does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    lines.for_each(|line| println!("{}", line.unwrap()));
    let status = child.wait().unwrap();
    // It may complain of a process that died under its hands.
    strace.wait_with_output().unwrap();
    status
}
