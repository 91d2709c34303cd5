//! Containers that stay: made, started, looked at, stopped, removed; and what
//! is left when their monitor is killed.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::world::{World, until};

#[test]
fn a_container_lives_as_dockers_do() {
    let Some(world) = World::new("life") else { return };
    let id =
        world.says(&["run", "-d", "--name", "one", "box", "sh", "-c", "echo out; echo err >&2; sleep 100"]);
    let id = id.trim();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(world.field("one", "{{.State.Status}} {{.Id}}"), format!("running {id}"));
    let listed = world.says(&["ps", "--format", "{{.ID}} {{.Image}} {{.Names}} {{.State}}"]);
    assert_eq!(listed, format!("{} box one running\n", &id[..12]));
    until("it has printed", || world.says(&["logs", "one"]).contains("out"));
    let logs = world.command(&["logs", "one"]).output().unwrap();
    assert_eq!((&logs.stdout[..], &logs.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));

    assert!(world.fails(&["rm", "one"]).contains("You cannot remove a running container"));
    assert!(world.fails(&["run", "--name", "one", "box"]).contains("is already in use by container"));
    assert_eq!(world.says(&["stop", "-t", "0", "one"]), "one\n");
    assert_eq!(world.field("one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    assert_eq!(world.says(&["ps", "-q"]), "");
    assert_eq!(world.says(&["wait", &id[..8]]), "137\n");

    assert_eq!(world.says(&["rename", "one", "two"]), "");
    assert_eq!(world.says(&["start", "two"]), "two\n");
    assert_eq!(world.says(&["kill", "-s", "KILL", "two"]), "two\n");
    assert!(world.fails(&["kill", "two"]).contains("is not running"));
    assert_eq!(world.says(&["rm", "two"]), "two\n");
    assert!(world.fails(&["inspect", "two"]).contains("No such object: two"));
    assert_eq!(world.left(), Vec::<String>::new());
}

#[test]
fn what_a_container_changed_stays_with_it() {
    let Some(world) = World::new("life-changes") else { return };
    let script = "cat /new 2>/dev/null; echo again >> /new; rm -f /data/file; ls /data";
    assert_eq!(world.says(&["run", "--name", "one", "box", "sh", "-c", script]), "device\nfifo\nlink\nsub\n");
    assert_eq!(world.says(&["start", "-a", "one"]), "again\ndevice\nfifo\nlink\nsub\n");
    assert_eq!(world.says(&["start", "-a", "one"]), "again\nagain\ndevice\nfifo\nlink\nsub\n");
    // And with no other.
    assert_eq!(world.run_says(&["box", "ls", "/data"]), "device\nfifo\nfile\nlink\nsub\n");
    world.says(&["rm", "one"]);
}

#[test]
fn exit_codes_reach_whoever_waits() {
    let Some(world) = World::new("life-codes") else { return };
    let created = world.says(&["create", "--name", "made", "box", "sh", "-c", "exit 7"]);
    assert_eq!(created.trim().len(), 64);
    assert_eq!(world.field("made", "{{.State.Status}}"), "created");
    assert_eq!(world.command(&["start", "-a", "made"]).status().unwrap().code(), Some(7));
    assert_eq!(world.says(&["wait", "made"]), "7\n");
    // One that cannot start is there, and says why.
    let failed = world.command(&["run", "--name", "bad", "box", "/no/such"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(127));
    assert_eq!(world.field("bad", "{{.State.Status}} {{.State.ExitCode}}"), "created 127");
    assert!(world.field("bad", "{{.State.Error}}").contains("/no/such"));
    // With --rm it is not.
    assert_eq!(world.run(&["--name", "gone", "box", "/no/such"]).status.code(), Some(127));
    assert!(world.fails(&["container", "inspect", "gone"]).contains("No such container: gone"));
    world.says(&["rm", "made", "bad"]);
    assert_eq!(world.left(), Vec::<String>::new());
}

#[test]
fn a_container_that_removes_itself_is_gone_in_any_case() {
    let Some(world) = World::new("life-rm") else { return };
    world.says(&["run", "-d", "--rm", "--name", "one", "box", "sleep", "100"]);
    world.says(&["stop", "-t", "0", "one"]);
    world.says(&["run", "-d", "--rm", "--name", "one", "box", "true"]);
    until("it is gone", || world.says(&["ps", "-aq"]).is_empty());
    let dir = world.scratch.join("store/containers");
    assert_eq!(fs::read_dir(dir.join("names")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "only names");
}

#[test]
fn whoever_attaches_reads_and_types() {
    let Some(world) = World::new("life-attach") else { return };
    world.says(&["run", "-d", "-i", "--name", "cat", "box", "cat"]);
    let mut attached =
        world.command(&["attach", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    attached.stdin.as_mut().unwrap().write_all(b"typed\n").unwrap();
    let mut said = [0; 6];
    attached.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"typed\n");
    // It stays open for the next one.
    drop(attached.stdin.take());
    let follower = world.command(&["logs", "-f", "cat"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(world.field("cat", "{{.State.Running}}"), "true");
    world.says(&["stop", "-t", "0", "cat"]);
    assert_eq!(attached.wait().unwrap().code(), Some(137));
    assert_eq!(follower.wait_with_output().unwrap().stdout, b"typed\n");
    world.says(&["rm", "cat"]);
}

#[test]
fn much_output_and_input_arrive_whole() {
    let Some(world) = World::new("life-much") else { return };
    let bytes: Vec<u8> =
        (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut child = world
        .command(&["run", "--rm", "-i", "box", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    // Nobody reads until all is sent: each side must go on for the other.
    let sender = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    sender.join().unwrap().unwrap();
    assert!(output.stdout == bytes, "{} of {} bytes", output.stdout.len(), bytes.len());
}

#[test]
fn signals_reach_the_command() {
    let Some(world) = World::new("life-signals") else { return };
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child =
        world.command(&["run", "--rm", "box", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(9), &b"caught\n"[..]));
    // Its own signal to stop by.
    let script = script.replace("TERM", "USR1");
    world.says(&["run", "-d", "--name", "one", "--stop-signal", "USR1", "box", "sh", "-c", &script]);
    until("it is ready", || world.says(&["logs", "one"]).contains("ready"));
    world.says(&["stop", "one"]);
    assert_eq!(world.field("one", "{{.State.ExitCode}}"), "9");
    world.says(&["rm", "one"]);
}

#[test]
fn containers_come_back_as_often_as_asked() {
    let Some(world) = World::new("life-restart") else { return };
    world.says(&[
        "run",
        "-d",
        "--name",
        "one",
        "--restart",
        "on-failure:2",
        "box",
        "sh",
        "-c",
        "echo try; exit 3",
    ]);
    assert_eq!(world.says(&["wait", "one"]), "3\n");
    assert_eq!(world.says(&["logs", "one"]), "try\ntry\ntry\n");
    assert_eq!(world.field("one", "{{.RestartCount}} {{.State.Status}}"), "2 exited");
    world.says(&["run", "-d", "--name", "two", "--restart", "always", "box", "true"]);
    until("it came back", || world.field("two", "{{.RestartCount}}") != "0");
    world.says(&["stop", "two"]);
    assert_eq!(world.field("two", "{{.State.Status}}"), "exited");
    world.says(&["rm", "one", "two"]);
}

/// What it cannot say is no reason not to come back.
#[test]
fn a_container_comes_back_without_a_place_for_its_monitor_s_words() {
    let Some(world) = World::new("life-words") else { return };
    let line = "while ! test -e /go; do sleep 0.05; done; exit 3";
    world.says(&["run", "-d", "--name", "one", "--restart", "on-failure:2", "box", "sh", "-c", line]);
    let dir = world.store().join("containers").join(world.field("one", "{{.Id}}"));
    fs::write(dir.join("monitor.log"), vec![b'x'; 100 << 10]).unwrap();
    fs::create_dir_all(dir.join("monitor.log.1/in-the-way")).unwrap();
    world.says(&["exec", "one", "touch", "/go"]);
    assert_eq!(world.says(&["wait", "one"]), "3\n");
    assert_eq!(world.field("one", "{{.RestartCount}} {{.State.Status}}"), "2 exited");
    let words = fs::read_to_string(dir.join("monitor.log")).unwrap();
    assert_eq!(words.matches("WARNING: cannot turn over").count(), 2, "{}", words.trim_start_matches('x'));
}

#[test]
fn a_killed_monitor_takes_its_container_along_and_the_next_command_says_so() {
    let Some(world) = World::new("life-killed") else { return };
    world.says(&["run", "-d", "--name", "one", "box", "sleep", "100"]);
    let pid = world.field("one", "{{.State.Pid}}");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let monitor = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
    assert!(Command::new("kill").args(["-9", &monitor]).status().unwrap().success());
    until("its process is gone", || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    });
    assert_eq!(world.field("one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 255");
    world.says(&["start", "one"]);
    world.says(&["stop", "-t", "0", "one"]);
    assert_eq!(world.field("one", "{{.State.ExitCode}}"), "137");
    world.says(&["rm", "one"]);
    until("nothing is left", || world.left().is_empty());
}

#[test]
fn terminals_are_the_containers_own() {
    let Some(world) = World::new("life-terminal") else { return };
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: no script(1)");
        return;
    }
    let runion = world.command(&["run", "--rm", "-it", "box", "sh", "-c", "test -t 0 && tty; exit 5"]);
    let words: Vec<String> = std::iter::once(runion.get_program())
        .chain(runion.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut script = Command::new("script");
    let output = script.args(["-qec", &words.join(" "), "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("/dev/pts/0"), "{said}");
}

#[test]
fn an_exit_code_outlives_a_container_that_is_removed_with_its_end() {
    let Some(world) = World::new("life-wait") else { return };
    let line = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.1; done";
    world.makes("run", &["-d", "--rm", "--name", "one", "box", "sh", "-c", line]);
    until("it is ready", || world.says(&["logs", "one"]) == "ready\n");
    let mut wait = world.command(&["wait", "one"]).stdout(Stdio::piped()).spawn().unwrap();
    let pid = wait.id().to_string();
    until("it sleeps on the container's lock", || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.split(' ').any(|word| word == pid))
    });
    world.says(&["kill", "-s", "TERM", "one"]);
    let mut told = String::new();
    wait.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(wait.wait().unwrap().success());
    assert_eq!(told, "4\n");
}

/// What waits for the end of stderr, as `$(… 2>&1)` does, does not wait for a container.
#[test]
fn who_starts_a_container_is_let_go_by_all_that_serves_it() {
    let Some(world) = World::new("life-stderr") else { return };
    world.says(&["network", "create", "net"]);
    let options = ["--network", "net", "-p", "127.0.0.1:8080:80", "--health-cmd", "true"];
    let words = [&["run", "-d", "--name", "one"], &options[..], &["box", "sleep", "60"]].concat();
    let began = std::time::Instant::now();
    let output = world.command(&words).output().unwrap();
    assert!(output.status.success(), "{}", crate::setup::stderr(&output));
    assert!(began.elapsed().as_secs() < 50, "not as long as it runs");
    assert_eq!(world.field("one", "{{.State.Status}}"), "running");
}

#[test]
fn neighbours_find_a_container_by_its_new_name() {
    let Some(world) = World::new("life-rename") else { return };
    world.says(&["network", "create", "net"]);
    for name in ["one", "two"] {
        world.says(&["run", "-d", "--name", name, "--network", "net", "box", "sleep", "60"]);
    }
    let asked = |name: &str| world.output(&["exec", "two", "nslookup", name, "127.0.0.11"]).status.success();
    assert!(asked("one"));
    world.says(&["rename", "one", "new"]);
    assert!(asked("new") && !asked("one"));
    let names = world.says(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "net"]);
    assert!(names.contains("new ") && !names.contains("one "), "{names}");
}
