//! Many threads on one union, in process and without the kernel's locks before
//! it: whatever order they meet in, the answers are among those that such calls
//! can have, nothing waits for ever, and what the union believes at the end is
//! what is on disk.
//!
//! `THREADS_SEED=` repeats a run as far as threads can be repeated.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;

use unionfs::config::{Config, UpperDirs};
use unionfs::inode::{NodeId, ROOT};
use unionfs::ops::{Caller, Make, Names, OpenFor, SetAttr, SetId, SetMode};
use unionfs::{Result, Union};

#[allow(dead_code)] // Shared with the crate's own tests, which need more of it.
#[path = "../src/sys/scratch.rs"]
mod scratch;

const THREADS: u64 = 4;
const OPERATIONS: usize = 400;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ROOT_USER: Caller = Caller { uid: 0, gid: 0, umask: 0o022 };

/// Numbers that differ enough (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn name(&mut self) -> &'static OsStr {
        OsStr::new(NAMES[self.roll(NAMES.len())])
    }
}

/// One thread's view: it holds a reference to every node it uses, as the kernel
/// does, and returns it.
struct Client {
    union: Arc<Union>,
    dice: Dice,
    /// VFS lets only one rename between directories happen at a time.
    renaming: Arc<Mutex<()>>,
}

impl Client {
    fn refer<T>(
        &self,
        dir: NodeId,
        name: &OsStr,
        f: impl FnOnce(NodeId, FileType) -> Result<T>,
    ) -> Result<T> {
        let entry = self.union.lookup(dir, name)?;
        let result = f(entry.id, entry.attr.kind);
        self.union.forget(entry.id, 1);
        result
    }

    /// Some directory, the root or up to three levels below it.
    fn in_some_dir(&mut self, f: &mut dyn FnMut(&mut Client, NodeId) -> Result<()>) -> Result<()> {
        let depth = self.dice.roll(4);
        self.descend(ROOT, depth, f)
    }

    fn descend(
        &mut self,
        dir: NodeId,
        depth: usize,
        f: &mut dyn FnMut(&mut Client, NodeId) -> Result<()>,
    ) -> Result<()> {
        if depth == 0 {
            return f(self, dir);
        }
        let name = self.dice.name();
        let entry = self.union.lookup(dir, name)?;
        let result = match entry.attr.kind {
            FileType::Directory => self.descend(entry.id, depth - 1, f),
            _ => f(self, dir),
        };
        self.union.forget(entry.id, 1);
        result
    }

    fn act(&mut self, dir: NodeId) -> Result<()> {
        let name = self.dice.name();
        match self.dice.roll(14) {
            0 | 1 => self.make(dir, name, Make::Dir { mode: 0o755 }),
            2 => self.make(dir, name, Make::File { mode: 0o644 }),
            3 => self.make(dir, name, Make::Symlink(b"x")),
            4 => self.union.unlink(Names { parent: dir, name }),
            5 => self.union.rmdir(Names { parent: dir, name }),
            6..=8 => self.rename(dir, name),
            9 => self.link(dir, name),
            10 => self.refer(dir, name, |id, kind| self.write(id, kind)),
            11 => self.refer(dir, name, |id, kind| self.read(id, kind)),
            12 => self.refer(dir, name, |id, kind| self.mark(id, kind)),
            _ => self.list(dir),
        }
    }

    fn make(&self, dir: NodeId, name: &OsStr, make: Make<'_>) -> Result<()> {
        let entry = self.union.make(dir, name, make, ROOT_USER)?;
        self.union.forget(entry.id, 1);
        Ok(())
    }

    fn rename(&mut self, dir: NodeId, name: &OsStr) -> Result<()> {
        let flags =
            [RenameFlags::empty(), RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE];
        let flags = flags[self.dice.roll(flags.len())];
        let renaming = self.renaming.clone();
        self.in_some_dir(&mut |client, to| {
            let to = Names { parent: to, name: client.dice.name() };
            let _one_at_a_time = renaming.lock().unwrap();
            client.union.rename(Names { parent: dir, name }, to, flags)
        })
    }

    fn link(&mut self, dir: NodeId, name: &OsStr) -> Result<()> {
        let entry = self.union.lookup(dir, name)?;
        let result = self.in_some_dir(&mut |client, to| {
            let made = client.union.link(entry.id, Names { parent: to, name: client.dice.name() })?;
            client.union.forget(made.id, 1);
            Ok(())
        });
        self.union.forget(entry.id, 1);
        result
    }

    fn write(&self, id: NodeId, kind: FileType) -> Result<()> {
        if kind != FileType::RegularFile {
            return Ok(());
        }
        self.union.open_file(id, OpenFor::Writing, ROOT_USER)?;
        let written = self.union.write(id, 3, b"written", SetId::Keep, ROOT_USER);
        self.union.release(id);
        written.map(drop)
    }

    fn read(&self, id: NodeId, kind: FileType) -> Result<()> {
        if kind != FileType::RegularFile {
            return Ok(());
        }
        self.union.open_file(id, OpenFor::Reading, ROOT_USER)?;
        let read = self.union.read(id, 0, &mut [0; 100]);
        self.union.release(id);
        read.map(drop)
    }

    fn mark(&self, id: NodeId, kind: FileType) -> Result<()> {
        if kind == FileType::Symlink {
            return Ok(());
        }
        self.union.setattr(id, &SetAttr { mode: Some(0o751), ..SetAttr::default() }, ROOT_USER)?;
        self.union.setxattr(id, OsStr::new("user.mark"), b"here", SetMode::Any)
    }

    fn list(&self, dir: NodeId) -> Result<()> {
        for entry in self.union.list(dir)?.from_offset(2) {
            if let Some(found) = self.union.lookup_listed(dir, &entry)? {
                self.union.forget(found.id, 1);
            }
        }
        Ok(())
    }

    fn run(&mut self) {
        for _ in 0..OPERATIONS {
            let done = self.in_some_dir(&mut |client, dir| client.act(dir));
            if let Err(error) = done {
                assert!(is_possible(error.errno()), "{error:?}");
            }
        }
    }
}

/// Answers that calls on names which come and go can have.
fn is_possible(errno: Errno) -> bool {
    let of_names = [Errno::NOENT, Errno::EXIST, Errno::NOTDIR, Errno::ISDIR, Errno::NOTEMPTY, Errno::STALE];
    // Below itself; a link of a directory; too many names of one file.
    let of_kinds = [Errno::INVAL, Errno::PERM, Errno::MLINK];
    of_names.contains(&errno) || of_kinds.contains(&errno)
}

/// Everything a union shows, a line for each file.
fn describe(union: &Union, dir: NodeId, path: &str, lines: &mut Vec<String>) {
    for listed in union.list(dir).unwrap().from_offset(2) {
        let name = OsStr::from_bytes(listed.name);
        let entry = union.lookup(dir, name).unwrap_or_else(|error| panic!("{path}/{name:?}: {error:?}"));
        let attr = entry.attr;
        let path = format!("{path}/{}", name.to_string_lossy());
        let mut data = vec![0; attr.size as usize];
        let mut mark = [0; 10];
        if attr.kind == FileType::RegularFile {
            union.read(entry.id, 0, &mut data).unwrap();
        }
        let marked = union.getxattr(entry.id, OsStr::new("user.mark"), &mut mark).is_ok();
        let nlink = if attr.kind == FileType::Directory { 1 } else { attr.nlink };
        lines.push(format!(
            "{path} {:?} {:o} links {nlink} ino {} {marked} {data:?}",
            attr.kind, attr.perm, attr.ino
        ));
        if attr.kind == FileType::Directory {
            describe(union, entry.id, &path, lines);
        }
        union.forget(entry.id, 1);
    }
}

fn shown(union: &Union) -> Vec<String> {
    let mut lines = Vec::new();
    describe(union, ROOT, "", &mut lines);
    lines.sort();
    lines
}

fn make_lowers(scratch: &scratch::Scratch) -> Vec<std::path::PathBuf> {
    let lowers: Vec<_> = (0..2).map(|number| scratch.path().join(format!("lower{number}"))).collect();
    for (number, lower) in lowers.iter().enumerate() {
        for dir in ["", "a", "a/b", "b", "c", "c/d"] {
            std::fs::create_dir(lower.join(dir)).unwrap();
        }
        std::fs::write(lower.join("d"), format!("file of {number}")).unwrap();
        std::fs::hard_link(lower.join("d"), lower.join("a/c")).unwrap();
        std::fs::hard_link(lower.join("d"), lower.join("b").join(NAMES[number])).unwrap();
        std::fs::write(lower.join("c/a"), "alone").unwrap();
    }
    lowers
}

fn storm(seed: u64) {
    let parent =
        if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let scratch = scratch::Scratch::on(parent, "threads");
    let lowers = make_lowers(&scratch);
    let dirs = UpperDirs { upper: scratch.path().join("upper"), work: scratch.path().join("work") };
    std::fs::create_dir(&dirs.upper).unwrap();
    std::fs::create_dir(&dirs.work).unwrap();
    // So few that threads meet each other's maps going.
    let config = Config { lowers, upper: Some(dirs), dir_cache: 4, ..Config::default() };
    let union = Arc::new(Union::open(config.clone()).unwrap());
    let renaming = Arc::new(Mutex::new(()));
    let (done, wait) = mpsc::channel();
    for number in 0..THREADS {
        let dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (number + 1));
        let mut client = Client { union: union.clone(), dice, renaming: renaming.clone() };
        let done = done.clone();
        std::thread::spawn(move || {
            client.run();
            drop(client);
            done.send(()).unwrap();
        });
    }
    drop(done);
    for _ in 0..THREADS {
        match wait.recv_timeout(Duration::from_secs(60)) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("threads wait for each other: THREADS_SEED={seed}")
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("a thread panicked: THREADS_SEED={seed}"),
        }
    }
    let believed = shown(&union);
    drop(Arc::into_inner(union).unwrap());
    let on_disk = shown(&Union::open(config).unwrap());
    assert_eq!(believed, on_disk, "THREADS_SEED={seed}");
}

#[test]
fn threads_leave_on_disk_what_the_union_believes() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: trusted attributes need root");
        return;
    }
    match std::env::var("THREADS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => storm(seed),
        None => (0..40).for_each(storm),
    }
}
