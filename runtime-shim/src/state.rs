//! The directory in which one try keeps its upper, and what becomes of it.
//!
//! ```text
//! DIR/            0700, locked (flock) while its try runs, hidden in the view
//!     upper/      the changes
//!     work/       where the union stages them
//!     mnt/        where the view is mounted for a moment
//!     runion-try  the record (see `record`)
//! ```
//! A try that is killed cannot remove its directory; the lock says so, and the
//! next one does it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use unionfs::changes::remove_tree;

use crate::failure::{Context, Failure, Result, say};
use crate::record::{self, Instant, Record};

/// What becomes of the changes.
#[derive(Clone, Debug)]
pub enum Fate {
    /// They are thrown away.
    Discard,
    /// They stay in this directory.
    Keep(PathBuf),
}

/// A prepared, locked state directory.
pub struct State {
    dir: PathBuf,
    kind: Kind,
    contents: Contents,
    _lock: OwnedFd,
}

/// What an upper holds when a try begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Nothing.
    None,
    /// The changes of an earlier try.
    Changes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Temporary,
    Kept,
}

/// Names of temporary state directories, once they are locked.
const LOCKED: &str = "runion-try-";
/// The same before.
const UNLOCKED: &str = "runion-new-";

impl State {
    /// Makes a state directory ready, or readies a kept one to be gone on with.
    pub fn prepare(fate: &Fate, record: &Record) -> Result<State> {
        let state = match fate {
            Fate::Discard => temporary()?,
            Fate::Keep(dir) => kept(dir, record)?,
        };
        for part in [state.upper(), state.work(), state.mount_point()] {
            match fs::DirBuilder::new().mode(0o755).create(&part) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.context(|| format!("cannot make {}", part.display()))?,
            }
        }
        Ok(state)
    }

    /// The whole directory: what the view must not show.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the changes are.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// Where the union stages them.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Where the view is mounted.
    pub fn mount_point(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// What was in the upper before.
    pub fn contents(&self) -> Contents {
        self.contents
    }

    /// Whether the changes outlive the try.
    pub fn is_kept(&self) -> bool {
        self.kind == Kind::Kept
    }

    /// Removes what nobody needs any more: all of a temporary directory, the
    /// mount point of a kept one.
    pub fn finish(&self) -> Result<()> {
        match self.kind {
            Kind::Temporary => remove(&self.dir),
            // The work directory knows which of the upper's files have further
            // names in the lower.
            Kind::Kept => remove(&self.mount_point()),
        }
    }

    /// Removes what killed tries of the same user left beside this one.
    ///
    /// Failing is tolerated, and said: the next try will come by again.
    pub fn sweep(&self) {
        if self.kind == Kind::Kept {
            return;
        }
        let Some(base) = self.dir.parent() else { return };
        if let Err(failure) = sweep(base, rustix::process::getuid().as_raw()) {
            say(&failure.to_string());
        }
    }
}

/// A fresh directory on a file system that is meant for bulk.
fn temporary() -> Result<State> {
    let base = base_directory()?;
    for attempt in 0..100 {
        let unique = format!("{}-{attempt}", std::process::id());
        let new = base.join(format!("{UNLOCKED}{unique}"));
        match fs::DirBuilder::new().mode(0o700).create(&new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made.context(|| format!("cannot make {}", new.display()))?,
        }
        let lock = lock(&new)?;
        // Under its final name it is always locked, so that a sweep never
        // takes a directory that is just being made for one that was left.
        let dir = base.join(format!("{LOCKED}{unique}"));
        match fs::rename(&new, &dir) {
            Ok(()) => return Ok(State { dir, kind: Kind::Temporary, contents: Contents::None, _lock: lock }),
            Err(_taken) => remove(&new)?,
        }
    }
    Err(Failure::new(format!("cannot make a directory in {}: too many are left there", base.display())))
}

/// `$XDG_CACHE_HOME/runion`, `$TMPDIR`, `/var/tmp`: the first that is set.
fn base_directory() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = match (set("XDG_CACHE_HOME"), set("TMPDIR")) {
        (Some(cache), _) => {
            let base = cache.join("runion");
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&base)
                .context(|| format!("cannot make {}", base.display()))?;
            base
        }
        (None, Some(temporary)) => temporary,
        (None, None) => PathBuf::from("/var/tmp"),
    };
    base.canonicalize().map_err(|error| {
        Failure::new(format!("cannot keep changes in {}: {error}", base.display()))
            .hint("set TMPDIR to a directory on a file system with room, or use --keep DIR")
    })
}

/// The directory of `--keep`: new, empty, or of a try that may be continued.
fn kept(dir: &Path, record: &Record) -> Result<State> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.context(|| format!("cannot make {}", dir.display()))?,
    }
    let dir = dir.canonicalize().context(|| format!("cannot keep changes in {}", dir.display()))?;
    let lock = lock(&dir)?;
    let file = dir.join(record::FILE);
    let contents = match fs::read(&file) {
        Ok(text) => {
            let old = Record::parse(&text).ok_or_else(|| {
                Failure::new(format!("cannot read {}: not a record of a try", file.display()))
            })?;
            if !old.may_continue(record) {
                return Err(Failure::new(format!(
                    "cannot go on in {}: it holds changes of another lower directory, user or --root",
                    dir.display()
                ))
                .hint("give --keep a new directory, or the same options as the first time"));
            }
            Contents::Changes
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut entries = fs::read_dir(&dir).context(|| format!("cannot list {}", dir.display()))?;
            if entries.next().is_some() {
                return Err(Failure::new(format!("cannot keep changes in {}: not empty", dir.display()))
                    .hint("name a directory that is empty or does not exist yet"));
            }
            // What root's command makes in there must be out of others' reach.
            fs::set_permissions(&dir, PermissionsExt::from_mode(0o700))
                .context(|| format!("cannot close {} to others", dir.display()))?;
            write_record(&file, record)?;
            Contents::None
        }
        Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", file.display()))),
    };
    Ok(State { dir, kind: Kind::Kept, contents, _lock: lock })
}

/// Writes the record; the moment in it is the file's own, so that it is by the
/// clock file systems use.
fn write_record(file: &Path, record: &Record) -> Result<()> {
    let context = || format!("cannot write {}", file.display());
    fs::write(file, "").context(context)?;
    let stat = fs::metadata(file).context(context)?;
    let started = Instant { seconds: stat.mtime(), nanoseconds: stat.mtime_nsec() };
    fs::write(file, Record { started, ..record.clone() }.format()).context(context)
}

/// Locks a state directory for as long as the descriptor is open.
pub fn lock(dir: &Path) -> Result<OwnedFd> {
    let context = || format!("cannot lock {}", dir.display());
    let fd = openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(context)?;
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            Err(Failure::new(format!("cannot use {}: another runion is using it", dir.display())))
        }
        locked => locked.context(context).map(|()| fd),
    }
}

/// Lets this process hold as many descriptors as it may: one for each level of
/// a tree. Only for processes that execute nothing afterwards.
///
/// Where that is refused, a tree that is too deep fails by itself.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap_or_default();
}

/// Removes one path and all below it.
pub fn remove(path: &Path) -> Result<()> {
    let context = || format!("cannot remove {}", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::new(context()));
    };
    let name = CString::new(name.as_bytes()).context(context)?;
    let parent = openat(CWD, parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(context)?;
    remove_tree(parent.as_fd(), &name).context(context)
}

/// Removes the unlocked state directories in `base` that belong to `uid`.
fn sweep(base: &Path, uid: u32) -> Result<()> {
    let context = || format!("cannot look for left-over directories in {}", base.display());
    for entry in fs::read_dir(base).context(context)? {
        let entry = entry.context(context)?;
        if !entry.file_name().as_bytes().starts_with(LOCKED.as_bytes()) {
            continue;
        }
        let path = entry.path();
        let ours = fs::symlink_metadata(&path).is_ok_and(|stat| stat.is_dir() && stat.uid() == uid);
        if !ours {
            continue;
        }
        // Locked means that its try is running, gone that another sweep was
        // faster.
        if let Ok(_lock) = lock(&path) {
            remove(&path)?;
        }
    }
    Ok(())
}
