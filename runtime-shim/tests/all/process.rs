//! Exit codes, streams, signals, and what is left after the worst of them.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::setup::{Scratch, can_mount, runion, stderr, stdout};

#[test]
fn trees_deeper_than_any_path_are_listed_and_removed() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("deep");
    let line = "cd /tmp && perl -e 'for (1..4000) { mkdir \"dd\" and chdir \"dd\" or die }'";
    let output = scratch.sh(&[], line);
    assert!(output.status.success(), "{}", stderr(&output));
    let deepest = stderr(&output).lines().map(|line| line.matches('/').count()).max();
    assert_eq!(deepest, Some(1 + 4000), "levels listed");
    assert_eq!(scratch.left_over(), Vec::<String>::new());
}

#[test]
fn the_exit_code_is_the_command_s() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("codes");
    for (line, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        assert_eq!(scratch.sh(&[], line).status.code(), Some(code), "{line}");
    }
    let code = |command: &str| scratch.try_(&["--", command]).output().unwrap();
    let absent = code("no-such-command");
    assert_eq!(absent.status.code(), Some(127));
    assert!(stderr(&absent).contains("cannot run no-such-command"), "{}", stderr(&absent));
    assert_eq!(code("/etc").status.code(), Some(126));
    assert_eq!(code("/etc/passwd").status.code(), Some(126));
    assert!(scratch.left_over().is_empty());
}

#[test]
fn our_own_failures_are_125_and_say_what_to_do() {
    let scratch = Scratch::new("failures");
    let usage = scratch.try_(&[]).output().unwrap();
    assert_eq!(usage.status.code(), Some(125));
    if !can_mount() {
        return;
    }
    let root = std::fs::File::open("/").unwrap();
    let directory = scratch.try_(&["--", "true"]).stdin(root).output().unwrap();
    assert_eq!(directory.status.code(), Some(125));
    assert!(stderr(&directory).contains("stdin is a directory"), "{}", stderr(&directory));

    // Copied away from its helper, and with nothing in PATH.
    let alone = scratch.join("runion");
    std::fs::copy(runion(), &alone).unwrap();
    let lonely =
        Command::new(&alone).args(["try", "--", "/bin/true"]).env("PATH", "/nowhere").output().unwrap();
    assert_eq!(lonely.status.code(), Some(125));
    assert!(stderr(&lonely).contains("hint: build the whole workspace"), "{}", stderr(&lonely));
}

#[test]
fn streams_directory_and_environment_are_the_caller_s() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("streams");
    let mut child = scratch
        .try_(&["-q", "--", "sh", "-c", "cat; pwd; echo $MARK; echo error >&2"])
        .current_dir("/usr/share")
        .env("MARK", "kept")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "hello\n/usr/share\nkept\n");
    assert_eq!(stderr(&output), "error\n");
}

#[test]
fn signals_reach_the_command_and_zombies_are_reaped() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("signals");
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("USR1", 10)] {
        let line = format!("trap 'exit 40' {signal}; echo ready; while :; do sleep 0.05; done");
        let child = started(&scratch, &line);
        send(&child, number);
        assert_eq!(child.0.wait_with_output().unwrap().status.code(), Some(40), "{signal}");
    }
    let untrapped = started(&scratch, "echo ready; exec sleep 60");
    send(&untrapped, 15);
    assert_eq!(untrapped.0.wait_with_output().unwrap().status.code(), Some(143));

    // A zombie keeps its name.
    let orphans = "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done; try=0; \
                   while grep -qs '^sleep$' /proc/[0-9]*/comm && [ $try -lt 600 ]; do try=$((try + 1)); sleep 0.1; done; \
                   grep -ls '^State:.Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(stdout(&scratch.sh(&["-q"], orphans)), "0\n");
}

#[test]
fn a_killed_runion_leaves_no_process_and_no_mount() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("killed");
    let mark = format!("{}.5", 86400 + std::process::id());
    let mut child = started(&scratch, &format!("setsid sleep {mark} & echo ready; sleep {mark}"));
    assert!(processes_with(&mark).len() >= 2);
    assert_eq!(processes_with(&scratch.state().display().to_string()).len(), 1, "one server of the union");

    child.0.kill().unwrap();
    assert_eq!(child.0.wait().unwrap().signal(), Some(9));
    let patience = Instant::now() + Duration::from_secs(60);
    let remaining = || {
        let mut all = processes_with(&mark);
        all.extend(processes_with(&scratch.state().display().to_string()));
        all
    };
    while !remaining().is_empty() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(remaining(), Vec::<String>::new());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(scratch.path().to_str().unwrap()), "{mounts}");

    // The directory could not be removed; the next try does it.
    assert_eq!(scratch.left_over().len(), 1);
    assert!(scratch.sh(&["-q"], "true").status.success());
    assert_eq!(scratch.left_over(), Vec::<String>::new());
}

#[test]
fn a_server_that_dies_early_is_told() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("server");
    let mut child = scratch.try_(&["--", "sh", "-c", "echo ready; sleep 60"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    let mark = scratch.state().display().to_string();
    let server = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let is_server = String::from_utf8_lossy(&line).contains(&mark);
        is_server.then(|| path.file_name().unwrap().to_str().unwrap().parse::<i32>().unwrap())
    });
    let server = rustix::process::Pid::from_raw(server.unwrap()).unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    let child = Started(child);
    send(&child, 15);
    let output = child.0.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("the union's server ended before the command"), "{}", stderr(&output));
    assert_eq!(scratch.left_over(), Vec::<String>::new());
}

#[test]
fn a_signal_to_its_own_group_stays_in_the_view() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("group");
    // setsid: the test itself may be run on a terminal.
    let try_ = scratch.try_(&["-q", "--", "sh", "-c", "ps -o pgid= $$ | tr -d ' '; kill -USR2 0"]);
    let mut command = Command::new("setsid");
    command.args(["--wait", "sh", "-c", "trap 'echo reached' USR2; \"$@\"; echo $?", "sh"]);
    command.arg(try_.get_program()).args(try_.get_args()).env("TMPDIR", scratch.state());
    let output = command.output().unwrap();
    assert_eq!(stdout(&output), "2\n140\n", "{}", stderr(&output));
}

#[test]
fn on_a_terminal_keys_reach_the_command() {
    if !can_mount() {
        return;
    }
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: no script (apt-get install bsdutils)");
        return;
    }
    let scratch = Scratch::new("terminal");
    let line = "tty; trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done";
    // In the place of the shell, which the key reaches as well.
    let quoted = format!("exec {} try -q -- sh -c {line:?}", runion().display());
    let mut child = Command::new("script");
    child.args(["--quiet", "--return", "--command", &quoted, "/dev/null"]).env("TMPDIR", scratch.state());
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap().trim(), "/dev/console");
    assert_eq!(lines.next().unwrap().trim(), "ready");
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"\x03").unwrap();
    keys.flush().unwrap();
    assert!(lines.any(|line| line.trim().ends_with("caught")));
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn background_processes_end_with_the_command() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("background");
    let mark = format!("{}.25", 86400 + std::process::id());
    let output = scratch.sh(&["-q"], &format!("setsid sleep {mark} >/dev/null 2>&1 & exit 4"));
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(processes_with(&mark), Vec::<String>::new());
    assert_eq!(scratch.left_over(), Vec::<String>::new());
}

/// A try that has begun to run its command.
struct Started(Child);

fn started(scratch: &Scratch, line: &str) -> Started {
    let mut child = scratch.try_(&["-q", "--", "sh", "-c", line]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "ready\n");
    Started(child)
}

fn send(child: &Started, signal: i32) {
    let pid = rustix::process::Pid::from_child(&child.0);
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Command lines of running processes that have `part` in them.
fn processes_with(part: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path().join("cmdline");
        let line = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).replace('\0', " ");
        if line.contains(part) {
            found.push(line);
        }
    }
    found
}
