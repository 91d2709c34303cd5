//! Files of the store that are replaced as a whole, and its locks.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::Store;
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};

/// What the user can do about a store that is broken.
pub(super) const REPAIR: &str = "`runion fsck --repair` removes what is broken";

/// A file on its way in: in `tmp/`, gone when dropped unless it was published.
pub struct Staged<'s> {
    store: &'s Store,
    file: File,
    /// Where it is until it is published.
    path: Option<std::path::PathBuf>,
}

impl Staged<'_> {
    /// Makes it the file at `path`, on disk when this returns; an earlier one is
    /// replaced.
    pub fn publish(mut self, path: &Path) -> Result<()> {
        let writing = || format!("write {}", path.display());
        self.file.sync_all().context(writing)?;
        if let Some(staged) = &self.path {
            std::fs::rename(staged, path).context(writing)?;
        }
        self.path = None;
        self.store.sync_dir(path.parent().unwrap_or(path))
    }

    /// The same of a file that never changes, which the kernel holds to that where
    /// it can.
    pub fn publish_sealed(mut self, path: &Path) -> Result<()> {
        self.store.pool.seal(&mut self.file).context(|| format!("write {}", path.display()))?;
        self.publish(path)
    }
}

impl Write for Staged<'_> {
    /// Errors name the store: whoever's disk is full wants to know which.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::Interrupted => error,
            _ => {
                Error::from(error).context(format!("write to the store {}", self.store.root.display())).into()
            }
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Staged<'_> {
    /// What cannot be removed is garbage that the next collection removes.
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            std::fs::remove_file(path).unwrap_or_default();
        }
    }
}

impl Store {
    /// Begins a file that nobody sees yet.
    pub(super) fn stage(&self) -> Result<Staged<'_>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = self.root.join(format!("tmp/file-{}-{number}", std::process::id()));
            match File::options().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Staged { store: self, file, path: Some(path) }),
                // A process of this number died here, or lives in another namespace.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context(|| format!("create {}", path.display())),
            }
        }
    }

    /// A file on the store's disk that has no name and ends with its last user.
    pub(crate) fn scratch(&self) -> Result<File> {
        let staged = self.stage()?;
        staged.file.try_clone().context(|| format!("use a file in {}", self.root.join("tmp").display()))
    }

    /// Replaces a small file by one rename.
    pub(super) fn replace(&self, path: &Path, contents: &[u8]) -> Result<()> {
        let mut staged = self.stage()?;
        staged.write_all(contents).context(|| format!("write {}", path.display()))?;
        staged.publish(path)
    }

    /// Reads a file of ours; `None` where there is none.
    pub(super) fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(|| format!("read {}", path.display())),
        };
        parse(&bytes).map(Some).map_err(|wrong| {
            Error::new(Kind::Corrupt, format!("{} is malformed: {wrong}", path.display())).hint(REPAIR)
        })
    }

    /// Writes a file of ours.
    pub(super) fn write<T: serde::Serialize>(&self, path: &Path, value: &T) -> Result<()> {
        let mut bytes = serde_json::to_vec(value)
            .map_err(|error| Error::new(Kind::System, format!("write {}: {error}", path.display())))?;
        bytes.extend_from_slice(format!("\n\"{}\"\n", Digest::of(&bytes)).as_bytes());
        self.replace(path, &bytes)
    }

    /// What is in a directory is on disk when this returns.
    pub(super) fn sync_dir(&self, path: &Path) -> Result<()> {
        File::open(path).and_then(|dir| dir.sync_all()).context(|| format!("sync {}", path.display()))
    }

    /// Takes a lock, and waits for it.
    pub(super) fn lock(&self, name: &str, how: FlockOperation) -> Result<File> {
        let file = self.lock_file(name)?;
        loop {
            match rustix::fs::flock(&file, how) {
                Err(Errno::INTR) => {}
                result => break result.context(|| format!("lock {}", self.root.join(name).display()))?,
            }
        }
        Ok(file)
    }

    /// Takes a lock for itself, unless somebody has it.
    pub(super) fn try_lock(&self, name: &str) -> Result<Option<File>> {
        let file = self.lock_file(name)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno).context(|| format!("lock {}", self.root.join(name).display())),
        }
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.root.join(name);
        let file = match File::options().read(true).append(true).create(true).open(&path) {
            // Of a snapshot, say: by this way nobody changes it, and whoever looks at it
            // does not wait for a lock that cannot be made.
            Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                File::open(&path).or_else(|_| File::open(self.root.join("version")))
            }
            file => file,
        };
        file.context(|| format!("lock {}", path.display()))
    }

    /// Whether nothing can be written here.
    pub(super) fn is_read_only(&self) -> Result<bool> {
        let found = rustix::fs::statvfs(&self.root).context(|| format!("look at {}", self.root.display()))?;
        Ok(found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    /// Whether a file is still what its name leads to.
    pub(super) fn is_at(&self, file: &File, name: &str) -> Result<bool> {
        let path = self.root.join(name);
        let looking = || format!("look at {}", path.display());
        let ours = file.metadata().context(looking)?;
        match std::fs::metadata(&path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).context(looking),
        }
    }

    /// The digests that files of a directory are named by; other names are left
    /// out.
    pub(super) fn digests_in(&self, dir: &str, suffix: &str) -> Result<Vec<Digest>> {
        let path = self.root.join(dir);
        let listing = || format!("list {}", path.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&path).context(listing)? {
            let name = entry.context(listing)?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(suffix));
            found.extend(digits.and_then(Digest::from_hex));
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

/// A file of ours: a line of JSON, and one of its digest, a JSON string too.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let lines = bytes.strip_suffix(b"\"\n").and_then(|bytes| {
        let (json, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_LINE)?)?;
        Some((json, digest.strip_prefix(b"\n\"")?))
    });
    let (json, digest) = lines.ok_or("it does not end with its digest")?;
    if Digest::of(json).to_string().as_bytes() != digest {
        return Err("it is not what its digest says".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// A newline, a quotation mark, and a digest: `sha256:` and 64 digits.
const DIGEST_LINE: usize = 2 + 7 + 64;
