//! The public suites on our mount, with the same run on kernel overlayfs beside
//! it: pjdfstest (POSIX calls and their errors), fsx and fio (data, whichever
//! way it is written), stress-ng (many things at once).
//!
//! The rule is one for all: no failure of ours that the kernel does not have.
//! `tests/run` installs the suites; without them the tests skip themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::binary;
use tests::mount::{Driver, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::skipped;
use tests::tree::Tree;

/// Operations of each fsx run.
const FSX_OPERATIONS: &str = "4000";
/// Three are what peers publish their scores with.
const FSX_SEEDS: [&str; 3] = ["1", "2", "3"];

/// A program of the suites: in `target/tools`, where `tests/run` puts it, or on PATH.
fn tool(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own).chain(std::env::split_paths(&path).map(|dir| dir.join(name))).find(|p| p.is_file())
}

/// The tools, or a word on why the test cannot run.
fn ready(test: &str, tools: &[&str]) -> Option<Vec<PathBuf>> {
    if !rustix::process::geteuid().is_root() {
        skipped(test, "needs root");
        return None;
    }
    let mut found = Vec::new();
    for name in tools {
        let Some(path) = tool(name) else {
            skipped(test, &format!("{name} is not installed (tests/run installs it)"));
            return None;
        };
        found.push(path);
    }
    Some(found)
}

fn settings(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("suites").join(name)
}

/// One union with its directories, and a lower layer that must stay as it was.
struct Bench {
    mount: Mount,
    lower: PathBuf,
    before: Tree,
    scratch: Scratch,
}

impl Bench {
    /// `fill` makes the lower layer.
    fn new(driver: Driver, fill: impl FnOnce(&Path)) -> Bench {
        let scratch = Scratch::new(Backing::Disk).unwrap();
        let [lower, upper, work, merged] =
            ["lower", "upper", "work", "merged"].map(|d| scratch.dir(d).unwrap());
        // Other users of the suites walk through.
        for dir in [scratch.path(), &lower, &upper] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fill(&lower);
        let before = Tree::read(&lower).unwrap();
        let mount = Mount::new(driver, &Layers::writable(&[&lower], &upper, &work), &merged).unwrap();
        Bench { mount, lower, before, scratch }
    }

    fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Unmounts; the lower layer is what it was.
    fn finish(self) {
        self.mount.unmount().unwrap();
        let now = Tree::read(&self.lower).unwrap();
        assert_eq!(self.before.differences(&now, &[]), Vec::<String>::new(), "the lower layer changed");
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The outcome of each of pjdfstest's cases by name: `ok`, `FAILED` or
/// `skipped`; with what it said below a failure.
struct Pjdfstest {
    outcomes: BTreeMap<String, String>,
    said: String,
}

impl Pjdfstest {
    fn names(&self, outcome: &str) -> BTreeSet<&str> {
        self.outcomes.iter().filter(|(_, o)| *o == outcome).map(|(name, _)| name.as_str()).collect()
    }

    fn score(&self) -> String {
        let [ok, failed, skipped] = ["ok", "FAILED", "skipped"].map(|o| self.names(o).len());
        format!("{ok} passed, {failed} failed, {skipped} skipped")
    }

    /// The lines about one case: its name, and what is indented below.
    fn about(&self, name: &str) -> String {
        let mut lines = self.said.lines().skip_while(|line| line.split_whitespace().next() != Some(name));
        let head = lines.next().unwrap_or(name);
        let below = lines.take_while(|line| line.starts_with(char::is_whitespace)).take(3);
        let words = std::iter::once(head)
            .chain(below)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        words.collect::<Vec<_>>().join("; ")
    }
}

/// Makes `runionfs` a program that mount(8) finds, for this test's mounts alone:
/// it hands a remount to mount.fuse, which clears PATH and asks a shell for it.
fn install(scratch: &Scratch) -> Mount {
    let programs = scratch.dir("bin").unwrap();
    symlink(binary::mount_runionfs().unwrap(), programs.join("runionfs")).unwrap();
    let system = Path::new("/usr/sbin");
    let layers = Layers::read_only(&[&programs, system]).with("redirect_dir=on");
    Mount::new(Driver::Kernel, &layers, system).unwrap()
}

/// Whether pjdfstest may mount the union read-only and back.
#[derive(Clone, Copy, PartialEq)]
enum Remount {
    No,
    Yes,
}

fn pjdfstest(program: &Path, driver: Driver, remount: Remount) -> Pjdfstest {
    let bench = Bench::new(driver, |_| ());
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let other = Scratch::new(Backing::Tmpfs).unwrap();
    let mut config = fs::read_to_string(settings("pjdfstest.toml")).unwrap();
    if remount == Remount::Yes {
        config = config.replace("allow_remount = false", "allow_remount = true");
    }
    let config_path = bench.scratch.path().join("pjdfstest.toml");
    fs::write(&config_path, config).unwrap();
    let programs = Scratch::new(Backing::Disk).unwrap();
    let installed = install(&programs);
    let mut command = Command::new(program);
    command.arg("-c").arg(&config_path).arg("-p").arg(bench.path()).arg("-s").arg(other.path());
    let said = text(&command.output().unwrap());
    let mut outcomes = BTreeMap::new();
    for line in said.lines() {
        if let [name, outcome @ ("ok" | "FAILED" | "skipped")] =
            line.split_whitespace().collect::<Vec<_>>()[..]
        {
            outcomes.insert(name.to_owned(), outcome.to_owned());
        }
    }
    assert!(outcomes.len() > 300, "pjdfstest did not run: {said}");
    installed.unmount().unwrap();
    bench.finish();
    Pjdfstest { outcomes, said }
}

fn compare_pjdfstest(test: &str, remount: Remount) {
    let Some(tools) = ready(test, &["pjdfstest"]) else { return };
    let kernel = pjdfstest(&tools[0], Driver::Kernel, remount);
    let ours = pjdfstest(&tools[0], Driver::Runionfs, remount);
    println!("pjdfstest, kernel overlayfs: {}", kernel.score());
    println!("pjdfstest, runionfs:         {}", ours.score());
    for name in ours.names("skipped") {
        println!("pjdfstest skips {}", ours.about(name));
    }
    let (kernels, mut failed) = (kernel.names("FAILED"), ours.names("FAILED"));
    failed.retain(|name| !kernels.contains(name));
    for race in RACES_OF_FUSE {
        if failed.remove(race) {
            println!("pjdfstest lost a race that FUSE makes: {}", ours.about(race));
        }
    }
    // Its cases run side by side in one mount, which cannot be made read-only
    // while one of them writes: on the kernel's it meets others than on ours.
    let (busy, failed): (Vec<_>, Vec<_>) = failed
        .into_iter()
        .map(|name| ours.about(name))
        .partition(|about| about.contains("Failed to remount") && about.contains("busy"));
    for about in busy {
        println!("pjdfstest could not remount: {about}");
    }
    assert!(failed.is_empty(), "fail on ours and not on the kernel's:\n    {}", failed.join("\n    "));
    let skipped: Vec<_> = ours.names("skipped").difference(&kernel.names("skipped")).copied().collect();
    assert!(skipped.is_empty(), "skipped on ours and not on the kernel's: {skipped:?}");
}

#[test]
fn pjdfstest_fails_nowhere_but_where_the_kernel_does() {
    compare_pjdfstest("pjdfstest", Remount::No);
}

#[test]
fn pjdfstest_may_remount_read_only() {
    compare_pjdfstest("pjdfstest with remounts", Remount::Yes);
}

/// What FUSE itself makes a matter of chance. The kernel leaves the truncation
/// of `open(O_RDONLY | O_TRUNC)` to OPEN, before it looks whether the file is
/// being executed: the program may die of it first, and then nothing is busy.
const RACES_OF_FUSE: [&str; 1] = ["open::etxtbsy"];

/// Bytes that no run of fsx or fio would write by itself.
fn inherited(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 131 % 251) as u8).collect()
}

/// Runs fsx with each seed on a new file and on one of the lower layer.
fn fsx(test: &str, config: &str, files: &[&str]) {
    let Some(tools) = ready(test, &["fsx"]) else { return };
    for driver in [Driver::Kernel, Driver::Runionfs] {
        for seed in FSX_SEEDS {
            let bench =
                Bench::new(driver, |lower| fs::write(lower.join("inherited"), inherited(256 << 10)).unwrap());
            let artifacts = bench.scratch.dir("artifacts").unwrap();
            for file in files {
                let mut command = Command::new(&tools[0]);
                command.args(["-q", "-S", seed, "-N", FSX_OPERATIONS, "-f"]).arg(settings(config)).arg("-P");
                let output = command.arg(&artifacts).arg(bench.path().join(file)).output().unwrap();
                assert!(output.status.success(), "{driver:?}, seed {seed}, {file}: {}", text(&output));
            }
            bench.finish();
        }
    }
}

#[test]
fn fsx_mixed() {
    fsx("fsx, all operations", "fsx-mixed.toml", &["new", "inherited"]);
}

#[test]
fn fsx_mapped() {
    fsx("fsx, mappings", "fsx-mmap.toml", &["new", "inherited"]);
}

#[test]
fn fsx_whole_pages_of_an_inherited_file() {
    fsx("fsx, whole pages", "fsx-aligned.toml", &["inherited"]);
}

/// fio writes blocks that carry their own checksum, then reads all of them.
fn fio(test: &str, options: &[&str]) {
    let Some(tools) = ready(test, &["fio"]) else { return };
    let size: usize = 16 << 20;
    let bench =
        Bench::new(Driver::Runionfs, |lower| fs::write(lower.join("inherited"), inherited(size)).unwrap());
    for file in ["new", "inherited"] {
        let mut command = Command::new(&tools[0]);
        command.current_dir(bench.scratch.path()).args([
            "--name=verify",
            "--rw=randwrite",
            "--bs=4k",
            "--size=16m",
        ]);
        command.args(["--verify=crc32c", "--verify_fatal=1", "--end_fsync=1", "--randseed=7"]).args(options);
        let output =
            command.arg(format!("--filename={}", bench.path().join(file).display())).output().unwrap();
        assert!(output.status.success(), "{file}: {}", text(&output));
        assert_eq!(fs::metadata(bench.path().join(file)).unwrap().len(), size as u64);
    }
    bench.finish();
}

#[test]
fn fio_verifies_buffered_writes() {
    fio("fio, buffered", &["--ioengine=psync"]);
}

#[test]
fn fio_verifies_direct_writes() {
    fio("fio, direct", &["--ioengine=psync", "--direct=1"]);
}

#[test]
fn fio_verifies_mapped_writes() {
    fio("fio, mapped", &["--ioengine=mmap"]);
}

#[test]
fn fio_verifies_asynchronous_writes() {
    fio("fio, asynchronous", &["--ioengine=libaio", "--iodepth=16", "--direct=1"]);
}

/// stress-ng's stressors of files that check what they read.
const STRESSORS: [&str; 26] = [
    "access",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "fallocate",
    "fcntl",
    "filename",
    "flock",
    "fpunch",
    "fstat",
    "getdent",
    "hdd",
    "iomix",
    "link",
    "lockf",
    "lockofd",
    "open",
    "rename",
    "seek",
    "sendfile",
    "symlink",
    "utime",
    "xattr",
];

/// What a stressor complains of, if it fails.
fn stress(program: &Path, driver: Driver, stressor: &str) -> Option<String> {
    let bench = Bench::new(driver, |_| ());
    let mut command = Command::new(program);
    command
        .args([&format!("--{stressor}"), "2", "--verify", "--timeout", "1", "--temp-path"])
        .arg(bench.path());
    let output = command.output().unwrap();
    bench.finish();
    (!output.status.success()).then(|| text(&output))
}

#[test]
fn stress_ng_finds_nothing() {
    let Some(tools) = ready("stress-ng", &["stress-ng"]) else { return };
    let mut failed = Vec::new();
    for stressor in STRESSORS {
        let Some(complaint) = stress(&tools[0], Driver::Runionfs, stressor) else { continue };
        match stress(&tools[0], Driver::Kernel, stressor) {
            Some(_) => println!("stress-ng {stressor}: fails on kernel overlayfs too"),
            None => failed.push(format!("{stressor}: {complaint}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
