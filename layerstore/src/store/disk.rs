//! Files of the store that are replaced as a whole, and its locks.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::Store;
use crate::error::{Context, Error, Kind, Result};

/// A file on its way in: in `tmp/`, gone when dropped unless it was published.
pub struct Staged<'s> {
    store: &'s Store,
    file: File,
    path: std::path::PathBuf,
}

impl Staged<'_> {
    /// To be written to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes it the file at `path`, on disk when this returns; an earlier one is
    /// replaced.
    pub fn publish(self, path: &Path) -> Result<()> {
        let writing = || format!("write {}", path.display());
        self.file.sync_all().context(writing)?;
        std::fs::rename(&self.path, path).context(writing)?;
        self.store.sync_dir(path.parent().unwrap_or(path))
    }
}

impl Drop for Staged<'_> {
    /// After publication there is nothing by that name; else what is left is
    /// garbage that the next collection removes.
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap_or_default();
    }
}

impl Store {
    /// Begins a file that nobody sees yet.
    pub(super) fn stage(&self) -> Result<Staged<'_>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("tmp/file-{}-{number}", std::process::id()));
        // A process of this number may have died here.
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        Ok(Staged { store: self, file: file.context(|| format!("create {}", path.display()))?, path })
    }

    /// A file on the store's disk that has no name and ends with its last user.
    pub(crate) fn scratch(&self) -> Result<File> {
        let staged = self.stage()?;
        staged.file.try_clone().context(|| format!("use {}", staged.path.display()))
    }

    /// Replaces a small file by one rename.
    pub(super) fn replace(&self, path: &Path, contents: &[u8]) -> Result<()> {
        let mut staged = self.stage()?;
        staged.file().write_all(contents).context(|| format!("write {}", path.display()))?;
        staged.publish(path)
    }

    /// Reads a file of ours; `None` where there is none.
    pub(super) fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(|| format!("read {}", path.display())),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Error::new(Kind::Corrupt, format!("{} is malformed: {error}", path.display()))
                .hint("`runion fsck --repair` removes what is broken")
        })
    }

    /// Writes a file of ours.
    pub(super) fn write<T: serde::Serialize>(&self, path: &Path, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Error::new(Kind::System, format!("write {}: {error}", path.display())))?;
        self.replace(path, &bytes)
    }

    /// What is in a directory is on disk when this returns.
    pub(super) fn sync_dir(&self, path: &Path) -> Result<()> {
        File::open(path).and_then(|dir| dir.sync_all()).context(|| format!("sync {}", path.display()))
    }

    /// Takes a lock, and waits for it.
    pub(super) fn lock(&self, name: &str, how: FlockOperation) -> Result<File> {
        let path = self.root.join(name);
        let locking = || format!("lock {}", path.display());
        let file = File::options().read(true).append(true).create(true).open(&path).context(locking)?;
        loop {
            match rustix::fs::flock(&file, how) {
                Err(Errno::INTR) => {}
                result => break result.context(locking)?,
            }
        }
        Ok(file)
    }

    /// Takes a lock, if nobody has it.
    pub(super) fn try_lock(&self, file: &File) -> Result<bool> {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno).context(|| "lock a file of the store"),
        }
    }

    /// The digests that files of a directory are named by; other names are left
    /// out.
    pub(super) fn digests_in(&self, dir: &str, suffix: &str) -> Result<Vec<crate::digest::Digest>> {
        let path = self.root.join(dir);
        let listing = || format!("list {}", path.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&path).context(listing)? {
            let name = entry.context(listing)?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(suffix));
            found.extend(digits.and_then(crate::digest::Digest::from_hex));
        }
        Ok(found)
    }

    /// Removes a file that may be gone already; whether it was there.
    pub(super) fn remove_file(&self, path: &Path) -> Result<bool> {
        match std::fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).context(|| format!("remove {}", path.display())),
        }
    }
}
