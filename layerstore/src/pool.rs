//! The object pool: the contents of all files of all images, once each.
//!
//! ```text
//! POOL/objects/ab/cdef…   the contents whose fs-verity SHA-256 is abcdef…, mode 0444
//! POOL/tmp/               contents on their way in, where the file system knows no
//!                         unnamed files; whatever lies here while nobody writes is garbage
//! ```
//!
//! Contents are hashed while they are written to a file without a name, which
//! is linked under its own hash when it is whole: a reader sees an object
//! complete or not at all, and two writers of the same object both succeed.
//!
//! After a power cut an object may be there by name whose data never reached
//! the disk. File systems write the data before the size that covers it, so
//! such an object is too short: an insert replaces whatever has another length
//! than the contents it brings. Who makes objects reachable calls
//! [`Pool::sync`] before, once for all of them.
//!
//! Where the file system has fs-verity, an object is sealed before it has its
//! name: the kernel then verifies what is read of it.
//!
//! The pool knows no images: what may be removed is decided elsewhere.

mod insert;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Kind, Result};
use crate::object::ObjectId;
use crate::seal::{self, Contents, Sealing};

pub use insert::{Insert, Inserted};

/// An open object pool. Threads may share it.
pub struct Pool {
    path: PathBuf,
    objects: OwnedFd,
    tmp: OwnedFd,
    /// Numbers the names in `tmp` that this process uses.
    next_name: AtomicU64,
    sealing: Sealing,
}

impl Pool {
    /// The pool in this directory; its parts are made if they are missing.
    pub fn open(path: impl Into<PathBuf>) -> Result<Pool> {
        let path = path.into();
        let opening = || format!("open the object pool {}", path.display());
        std::fs::create_dir_all(&path).context(opening)?;
        let pool = rustix::fs::open(&path, DIR, Mode::empty()).context(opening)?;
        let [objects, tmp] = ["objects", "tmp"].map(|name| {
            exists_or(rustix::fs::mkdirat(&pool, name, Mode::from_raw_mode(0o755)))?;
            rustix::fs::openat(&pool, name, DIR | OFlags::NOFOLLOW, Mode::empty())
        });
        let (objects, tmp) = (objects.context(opening)?, tmp.context(opening)?);
        Ok(Pool { path, objects, tmp, next_name: AtomicU64::new(0), sealing: Sealing::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether files are sealed: their file system has fs-verity.
    pub fn is_sealing(&self) -> bool {
        self.sealing.is_on(&self.objects)
    }

    /// Seals a file that is written: by a descriptor that reads it, in the place of
    /// the one that wrote.
    pub(crate) fn seal(&self, file: &mut File) -> std::io::Result<()> {
        self.sealing.seal(file, &self.objects)
    }

    /// Seals a file that has its name; whether that could be.
    pub(crate) fn seal_at(&self, path: &Path) -> Result<bool> {
        let sealed = File::open(path).and_then(|file| self.sealing.seal_reader(&file));
        sealed.context(|| format!("seal {}", path.display()))
    }

    /// Begins new contents.
    pub fn insert(&self) -> Insert<'_> {
        Insert::new(self)
    }

    /// Puts these contents in, if they are not there.
    pub fn insert_bytes(&self, contents: &[u8]) -> Result<Inserted> {
        let mut insert = self.insert();
        insert.data(contents)?;
        insert.finish()
    }

    /// An object's contents, from their beginning.
    pub fn get(&self, id: &ObjectId) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.objects, id.path(), flags, Mode::empty());
        opened.map(File::from).context(|| format!("open object {}", self.describe(id)))
    }

    /// An object's length, if it is there.
    pub fn len_of(&self, id: &ObjectId) -> Result<Option<u64>> {
        self.stat(&id.path()).context(|| format!("look for object {}", self.describe(id)))
    }

    /// Whether an object is there.
    pub fn contains(&self, id: &ObjectId) -> Result<bool> {
        Ok(self.len_of(id)?.is_some())
    }

    fn stat(&self, path: &str) -> Result<Option<u64>, Errno> {
        match rustix::fs::statat(&self.objects, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_size as u64)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Reads an object and compares it with its name: [`Kind::Corrupt`] if they differ.
    pub fn verify(&self, id: &ObjectId) -> Result<Contents> {
        let found = seal::contents(&self.get(id)?, || format!("object {}", self.describe(id)))?;
        if found.id == *id {
            return Ok(found);
        }
        Err(Error::new(Kind::Corrupt, format!("object {} contains {}", self.describe(id), found.id.hex())))
    }

    /// Removes an object; false if it was not there.
    pub fn remove(&self, id: &ObjectId) -> Result<bool> {
        match rustix::fs::unlinkat(&self.objects, id.path(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno).context(|| format!("remove object {}", self.describe(id))),
        }
    }

    /// Every object, in no order; names that are no object's are left out.
    pub fn ids(&self) -> Result<Vec<ObjectId>> {
        let listing = || format!("list the objects in {}", self.path.display());
        let mut ids = Vec::new();
        for dir in names(&self.objects, ".").context(listing)?.iter().filter(|dir| dir.len() == 2) {
            let files = names(&self.objects, dir).context(listing)?;
            ids.extend(files.iter().filter_map(|file| ObjectId::from_hex(&format!("{dir}{file}"))));
        }
        Ok(ids)
    }

    /// Removes what interrupted writers left behind. Only while nobody writes.
    pub fn clear_tmp(&self) -> Result<usize> {
        let clearing = || format!("clear {}", self.path.join("tmp").display());
        let left = names(&self.tmp, ".").context(clearing)?;
        for name in &left {
            rustix::fs::unlinkat(&self.tmp, name, AtFlags::empty()).context(clearing)?;
        }
        Ok(left.len())
    }

    /// Everything that was put in is on the disk when this returns.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.objects).context(|| format!("sync {}", self.path.display()))
    }

    fn describe(&self, id: &ObjectId) -> String {
        format!("{} in {}", id.hex(), self.path.display())
    }
}

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory may be there already: somebody else made it.
fn exists_or(made: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// The names in a directory that are text; all of ours are.
fn names(dir: &OwnedFd, name: &str) -> rustix::io::Result<Vec<String>> {
    let dir = rustix::fs::openat(dir, name, DIR | OFlags::NOFOLLOW, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(dir)? {
        match entry?.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => names.push(name.to_owned()),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
