//! One container's directory: its paths, its locks, its record read and
//! replaced.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::record::{self, Record};
use crate::failure::{Context, Failure, Result};

/// A container's directory.
#[derive(Clone, Debug)]
pub struct Container {
    dir: PathBuf,
}

/// A container whose record nobody else changes meanwhile.
pub struct Locked<'c> {
    container: &'c Container,
    lock: File,
}

/// A command's proof that it holds a container's processes still.
pub struct Holder {
    _lock: File,
}

/// The monitor's proof that it is the only one.
pub struct Monitored {
    _alive: File,
}

impl Container {
    pub(super) fn at(dir: PathBuf) -> Container {
        Container { dir }
    }

    /// The whole directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The store that it is in.
    pub fn store(&self) -> &Path {
        self.dir.parent().and_then(Path::parent).unwrap_or(&self.dir)
    }

    /// What it is known by: the directory's name.
    pub fn id(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Where its root is mounted.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// What it changed.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// Where the union stages that.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// A file of its /etc that is not the image's.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.dir.join("etc").join(name)
    }

    /// What it printed.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Its monitor's socket.
    pub fn control(&self) -> PathBuf {
        self.dir.join("control")
    }

    /// The record as it is at this moment.
    pub fn read(&self) -> Result<Record> {
        let path = self.dir.join(record::FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::as_docker(format!("No such container: {}", self.id())));
            }
            read => read.context(|| format!("cannot read {}", path.display()))?,
        };
        Record::parse(&bytes).context(|| format!("cannot read {}", path.display()))
    }

    /// Replaces the record, whole or not at all.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let (path, new) = (self.dir.join(record::FILE), self.dir.join("state.new"));
        let context = || format!("cannot write {}", path.display());
        let bytes = serde_json::to_vec(record).context(context)?;
        let mut file = File::create(&new).context(context)?;
        file.write_all(&bytes).context(context)?;
        drop(file);
        fs::rename(&new, &path).context(context)
    }

    /// Waits until nobody else changes the record.
    pub fn lock(&self) -> Result<Locked<'_>> {
        let lock = self.open_lock("lock")?;
        let context = || format!("cannot lock the container {}", self.id());
        while let Err(errno) = flock(&lock, FlockOperation::LockExclusive) {
            if errno != Errno::INTR {
                return Err(errno).context(context);
            }
        }
        let locked = Locked { container: self, lock };
        // Somebody may have removed it meanwhile: the lock is on a file that is gone.
        locked.read().map(|_record| locked)
    }

    /// Whether its monitor lives.
    pub fn is_alive(&self) -> Result<bool> {
        is_held(&self.open_lock("alive")?).context(|| format!("cannot look at the container {}", self.id()))
    }

    /// Waits until its monitor lives no more.
    pub fn await_end(&self) -> Result<()> {
        let alive = match self.open_lock("alive") {
            Ok(alive) => alive,
            // Removed together with its monitor's end.
            Err(_gone) if !self.dir.exists() => return Ok(()),
            Err(failure) => return Err(failure),
        };
        loop {
            match flock(&alive, FlockOperation::LockShared) {
                Err(Errno::INTR) => {}
                waited => return waited.context(|| format!("cannot wait for the container {}", self.id())),
            }
        }
    }

    /// Makes this process its monitor, until the proof is dropped.
    pub fn monitor(&self) -> Result<Monitored> {
        let alive = self.open_lock("alive")?;
        // Whoever only looks holds it for an instant.
        flock(&alive, FlockOperation::LockExclusive)
            .context(|| format!("cannot become the monitor of {}", self.id()))?;
        Ok(Monitored { _alive: alive })
    }

    /// Makes this process the one that holds its processes still, until the proof is
    /// dropped; another that does is waited for.
    pub fn holder(&self) -> Result<Holder> {
        let lock = self.open_lock("holder")?;
        flock(&lock, FlockOperation::LockExclusive)
            .context(|| format!("cannot hold the container {}", self.id()))?;
        Ok(Holder { _lock: lock })
    }

    /// Whether somebody is that, in whatever namespace.
    pub fn has_holder(&self) -> Result<bool> {
        is_held(&self.open_lock("holder")?).context(|| format!("cannot look at the container {}", self.id()))
    }

    fn open_lock(&self, name: &str) -> Result<File> {
        let path = self.dir.join(name);
        // One that an older program made has no file for holders.
        match File::options().read(true).write(true).create(name == "holder").open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Failure::as_docker(format!("No such container: {}", self.id())))
            }
            opened => opened.context(|| format!("cannot open {}", path.display())),
        }
    }
}

/// Whether somebody has locked a file.
fn is_held(lock: &File) -> Result<bool, Errno> {
    match flock(lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno),
    }
}

impl std::os::fd::AsFd for Locked<'_> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Locked<'_> {
    /// The container.
    pub fn container(&self) -> &Container {
        self.container
    }

    /// The record.
    pub fn read(&self) -> Result<Record> {
        self.container.read()
    }

    /// Replaces the record.
    pub fn write(&self, record: &Record) -> Result<()> {
        self.container.write(record)
    }

    /// Changes the record, and gives it.
    pub fn update(&self, change: impl FnOnce(&mut Record)) -> Result<Record> {
        let mut record = self.read()?;
        change(&mut record);
        self.write(&record)?;
        Ok(record)
    }

    /// Gives the lock up for all processes that a fork has shared it with.
    pub fn unlock(self) -> Result<()> {
        flock(&self.lock, FlockOperation::Unlock)
            .context(|| format!("cannot unlock the container {}", self.container.id()))
    }
}
