//! The daemon killed with SIGKILL, at every step and at random instants; then
//! mounted again. Every file is the old one or the new one, never torn and
//! never both; what had been acknowledged is there; nothing is left in the
//! work directory; and kernel overlayfs reads the same.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::differential::rng::Rng;
use tests::mount::{Driver, Mount};
use tests::scratch::Backing;
use tests::stage::{Stage, put};
use tests::tree::{Aspect, Tree};

/// Parents that were copied up are merged now, and have been touched. A hard
/// link's name and the count of them cannot change in one step: see
/// [`count_names`].
const IGNORED: [Aspect; 5] = [Aspect::Mtime, Aspect::Ctime, Aspect::DirNlink, Aspect::Nlink, Aspect::Ino];

/// The link count of a file is never less than its names, or the last ones
/// would vanish with the others.
fn count_names(tree: &Tree, context: &str) {
    for (path, node) in &tree.nodes {
        let names = match &node.twin {
            Some(twin) => tree.nodes.values().filter(|other| other.twin.as_ref() == Some(twin)).count(),
            None => 1,
        };
        assert!(
            node.nlink >= names as u64,
            "{context}: {path:?} has {names} names and counts {}",
            node.nlink
        );
    }
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(bytes)
}

/// What the union shows after a crash, once ours and once the kernel's view.
fn after_crash(stage: &Stage, context: &str) -> Tree {
    let mount = stage.mount(Driver::Runionfs).unwrap_or_else(|e| panic!("{context}: {e}"));
    let ours = Tree::read(mount.path()).unwrap_or_else(|e| panic!("{context}: {e}"));
    mount.unmount().unwrap();
    let left: Vec<_> = fs::read_dir(stage.work.join("work")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{context}: the work directory was not cleaned: {left:?}");
    let mount = stage.mount(Driver::Kernel).unwrap_or_else(|e| panic!("{context}: {e}"));
    let kernels = Tree::read(mount.path()).unwrap_or_else(|e| panic!("{context}: {e}"));
    mount.unmount().unwrap();
    let differences = ours.differences(&kernels, &[Aspect::Ctime]);
    assert!(differences.is_empty(), "{context}: the kernel sees it otherwise:\n{}", differences.join("\n"));
    ours
}

type Operation = (&'static str, fn(&Path) -> io::Result<()>);

/// Each changes the tree from one state to one other.
const OPERATIONS: [Operation; 14] = [
    ("append to a lower file", |m| append(&m.join("a/b/file"), b"tail")),
    ("append to a linked lower file", |m| append(&m.join("a/one"), b"tail")),
    ("chmod of a lower file", |m| fs::set_permissions(m.join("a/b/file"), Permissions::from_mode(0o600))),
    ("chmod of a lower directory", |m| fs::set_permissions(m.join("a/b"), Permissions::from_mode(0o700))),
    ("create", |m| fs::File::create(m.join("a/b/new")).map(drop)),
    ("mkdir over a whiteout", |m| fs::create_dir(m.join("gone"))),
    ("symlink", |m| std::os::unix::fs::symlink("target", m.join("a/symlink"))),
    ("unlink of a lower file", |m| fs::remove_file(m.join("a/b/file"))),
    ("unlink of a linked lower file", |m| fs::remove_file(m.join("a/one"))),
    ("rename of a lower file", |m| fs::rename(m.join("a/b/file"), m.join("a/moved"))),
    ("rename over a lower file", |m| fs::rename(m.join("upper"), m.join("a/b/file"))),
    ("rename of a lower directory", |m| fs::rename(m.join("a/b"), m.join("b-moved"))),
    ("rmdir of a lower directory", |m| fs::remove_dir(m.join("a/empty"))),
    ("link to a lower file", |m| fs::hard_link(m.join("a/b/file"), m.join("a/link"))),
];

fn stage_for_operations() -> Stage {
    let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
    let lower = &stage.lowers[0];
    put(lower, "a/b/file", vec![5; 200_000]).unwrap();
    put(lower, "a/one", "linked").unwrap();
    fs::hard_link(lower.join("a/one"), lower.join("a/two")).unwrap();
    fs::create_dir(lower.join("a/empty")).unwrap();
    put(lower, "gone/x", "x").unwrap();
    let mount = stage.mount(Driver::Kernel).unwrap();
    put(mount.path(), "upper", "made by the kernel").unwrap();
    fs::remove_dir_all(mount.path().join("gone")).unwrap();
    mount.unmount().unwrap();
    stage
}

/// The system calls that change something, as far as strace knows their names:
/// between two of them nothing can be seen to happen but what the newest calls
/// do (setxattrat, fchmodat2), whose effect the next step finds.
const CHANGES: &str = "mkdirat,mknodat,symlinkat,linkat,unlinkat,renameat2,fchmod,fchmodat,fchown,fchownat,\
    utimensat,setxattr,lsetxattr,fsetxattr,removexattr,fremovexattr,ftruncate,truncate,fallocate,ioctl,write,\
    pwrite64,sendfile,copy_file_range,fsync,fdatasync,syncfs";

/// Attaches strace to all threads of the daemon.
fn trace(daemon: u32, output: &Path, expression: &str) -> Child {
    let mut tracer = Command::new("strace")
        .args(["-f", "-qq", "-e", expression, "-p", &daemon.to_string(), "-o"])
        .arg(output)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let traced = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fs::read_dir(format!("/proc/{daemon}/task")).unwrap().all(|task| traced(task.unwrap().path())) {
        assert!(tracer.try_wait().unwrap().is_none(), "strace ended");
        assert!(Instant::now() < deadline, "strace did not attach");
        std::thread::sleep(Duration::from_millis(1));
    }
    tracer
}

/// Takes the tracer away, with SIGKILL: asked to end, it waits for a tracee that
/// was killed in the meantime, for ever.
fn detach(mut tracer: Child) {
    tracer.kill().unwrap();
    tracer.wait().unwrap();
}

/// A mount with one thread, which strace counts one by one, that has learnt
/// the tree: the steps that follow are those of the operation.
fn ready(stage: &Stage) -> Mount {
    let layers = stage.layers().with("threads=1");
    let mount = Mount::new(Driver::Runionfs, &layers, &stage.merged).unwrap();
    Tree::read(mount.path()).unwrap();
    mount
}

/// The changing calls of an operation in order: the name of each, and the how
/// manyeth of that name it is, which is how strace counts.
fn steps(stage: &Stage, act: fn(&Path) -> io::Result<()>) -> Vec<(String, usize)> {
    let output = stage.scratch.path().join("trace");
    let mount = ready(stage);
    let tracer = trace(mount.daemon().unwrap(), &output, &format!("trace={CHANGES}"));
    act(mount.path()).unwrap();
    detach(tracer);
    mount.unmount().unwrap();
    let mut steps: Vec<(String, usize)> = Vec::new();
    for line in fs::read_to_string(output).unwrap().lines() {
        let call = line.split_once(' ').and_then(|(_, rest)| rest.trim_start().split_once('('));
        // Calls that strace has no name for are shown but cannot be asked for.
        let is_known = |(name, _): &(&str, &str)| !name.starts_with('<') && !name.starts_with("syscall_");
        let Some((name, _)) = call.filter(is_known) else { continue };
        let before = steps.iter().filter(|(known, _)| known == name).count();
        steps.push((name.to_owned(), before + 1));
    }
    steps
}

/// Runs `act` with the daemon killed as it enters the `nth` call of `name`.
fn crash_at(stage: &Stage, act: fn(&Path) -> io::Result<()>, (name, nth): &(String, usize)) {
    let mount = ready(stage);
    let expression = format!("inject={name}:signal=KILL:when={nth}");
    let tracer = trace(mount.daemon().unwrap(), Path::new("/dev/null"), &expression);
    let result = act(mount.path());
    detach(tracer);
    let survived = fs::read_dir(mount.path()).is_ok();
    assert!(!survived, "no crash at call {nth} of {name}: {result:?}");
    mount.kill().unwrap();
}

fn snapshot(stage: &Stage, act: fn(&Path) -> io::Result<()>) -> Tree {
    let mount = stage.mount(Driver::Runionfs).unwrap();
    act(mount.path()).unwrap();
    let tree = Tree::read(mount.path()).unwrap();
    mount.unmount().unwrap();
    tree
}

/// `CRASH_STRIDE=n` takes every nth step, starting
/// elsewhere for each operation.
#[test]
fn killed_at_each_step_of_each_operation() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return tests::skipped("killed_at_each_step_of_each_operation", "strace is not installed");
    }
    let stride = std::env::var("CRASH_STRIDE").map_or(1, |text| text.parse().unwrap());
    for (number, (name, act)) in OPERATIONS.into_iter().enumerate() {
        let old = snapshot(&stage_for_operations(), |_| Ok(()));
        let new = snapshot(&stage_for_operations(), act);
        let steps = steps(&stage_for_operations(), act);
        assert!(!steps.is_empty(), "{name} changes nothing");
        let mut outcomes = [0, 0];
        for step in steps.iter().skip(number % stride).step_by(stride) {
            let mut stage = stage_for_operations();
            stage.seal().unwrap();
            crash_at(&stage, act, step);
            let context = format!("{name}, killed at call {} of {}", step.1, step.0);
            let seen = after_crash(&stage, &context);
            count_names(&seen, &context);
            let from_old = old.differences(&seen, &IGNORED);
            let from_new = new.differences(&seen, &IGNORED);
            assert!(
                from_old.is_empty() || from_new.is_empty(),
                "{context}: neither old nor new.\nagainst the old:\n{}\nagainst the new:\n{}",
                from_old.join("\n"),
                from_new.join("\n")
            );
            assert_eq!(stage.damage().unwrap(), Vec::<String>::new(), "{context}: a lower changed");
            outcomes[usize::from(from_new.is_empty())] += 1;
        }
        println!("{name}: {} steps, {} old and {} new after a crash", steps.len(), outcomes[0], outcomes[1]);
    }
}

/// Lets `work` run on a mount and kills the daemon after `delay`.
fn kill_during(stage: &Stage, delay: Duration, work: impl FnOnce(&Path) + Send) {
    let mount: Mount = stage.mount(Driver::Runionfs).unwrap();
    let path = mount.path().to_path_buf();
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || work(&path));
        std::thread::sleep(delay);
        mount.kill().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn killed_at_random_in_the_copy_up_of_a_large_file() {
    let stage = Stage::new(Backing::Disk, 1).unwrap();
    let content: Vec<u8> = (0..64 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    put(&stage.lowers[0], "d/big", &content).unwrap();
    let mut rng = Rng::new(64);
    let (mut old, mut new) = (0, 0);
    for round in 0..20 {
        stage.renew().unwrap();
        let delay = Duration::from_micros(u64::from(rng.below(120_000)));
        kill_during(&stage, delay, |merged| {
            // Fails when the daemon dies under it: that is the point.
            append(&merged.join("d/big"), b"tail").ok();
        });
        let context = format!("round {round}, killed after {delay:?}");
        let mount = stage.mount(Driver::Runionfs).unwrap();
        let seen = fs::read(mount.path().join("d/big")).unwrap();
        mount.unmount().unwrap();
        assert!(seen.starts_with(&content), "{context}: torn, {} bytes", seen.len());
        match &seen[content.len()..] {
            b"" => old += 1,
            b"tail" => new += 1,
            other => panic!("{context}: the tail is {other:?}"),
        }
        after_crash(&stage, &context);
    }
    println!("64 MiB copy-up killed at random: {old} old, {new} new");
}

#[test]
fn killed_in_a_storm_of_renames() {
    const FILES: usize = 40;
    let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
    for number in 0..FILES {
        put(&stage.lowers[0], &format!("files/{number}.0"), format!("file {number}")).unwrap();
        put(&stage.lowers[0], &format!("dirs/{number}.0/inside"), format!("dir {number}")).unwrap();
    }
    let mut rng = Rng::new(7);
    for round in 0..25 {
        stage.renew().unwrap();
        let done = AtomicUsize::new(0);
        let delay = Duration::from_micros(500 + u64::from(rng.below(30_000)));
        let path = |kind: &str, step: usize| format!("{kind}/{}.{}", step % FILES, step / FILES);
        kill_during(&stage, delay, |merged| {
            for step in 0.. {
                for kind in ["files", "dirs"] {
                    let next = path(kind, step + FILES);
                    if fs::rename(merged.join(path(kind, step)), merged.join(next)).is_err() {
                        return;
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        let done = done.into_inner();
        let tree = after_crash(&stage, &format!("round {round}"));
        for kind in ["files", "dirs"] {
            for number in 0..FILES {
                // How often this one was renamed for sure; the one in flight may be once more.
                let times = done / FILES + usize::from(number < done % FILES);
                let found: Vec<usize> = (0..=times + 2)
                    .filter(|t| tree.nodes.contains_key(Path::new(&format!("{kind}/{number}.{t}"))))
                    .collect();
                let in_flight = number == done % FILES;
                let right = found == [times] || (in_flight && found == [times + 1]);
                assert!(right, "round {round}, {kind}/{number}, renamed {times} times: found {found:?}");
            }
        }
        let insides = tree.nodes.keys().filter(|path| path.ends_with("inside")).count();
        assert_eq!(insides, FILES, "round {round}: directories lost their content");
    }
}

#[test]
fn killed_in_a_storm_of_writes_and_replacements() {
    let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
    put(&stage.lowers[0], "d/config", "generation 0\n".repeat(500)).unwrap();
    let mut rng = Rng::new(8);
    for round in 0..25 {
        stage.renew().unwrap();
        let done = AtomicUsize::new(0);
        let delay = Duration::from_micros(500 + u64::from(rng.below(30_000)));
        kill_during(&stage, delay, |merged| {
            for generation in 1.. {
                let content = format!("generation {generation}\n").repeat(500);
                let replaced = fs::write(merged.join("d/config.new"), content)
                    .and_then(|()| fs::rename(merged.join("d/config.new"), merged.join("d/config")));
                if replaced.is_err() {
                    return;
                }
                done.store(generation, Ordering::SeqCst);
            }
        });
        let done = done.into_inner();
        after_crash(&stage, &format!("round {round}"));
        let mount = stage.mount(Driver::Runionfs).unwrap();
        let seen = fs::read_to_string(mount.path().join("d/config")).unwrap();
        let right = [done, done + 1].map(|generation| format!("generation {generation}\n").repeat(500));
        assert!(right.contains(&seen), "round {round}: after {done} generations: {:?}", seen.lines().next());
        mount.unmount().unwrap();
    }
}
