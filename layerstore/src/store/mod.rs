//! The store on disk: images by name, built from layers and objects.
//!
//! `LAYOUT.md` draws the tree. Nothing is reachable before the image's record
//! is there, which is written last, by one rename: a kill at any instant leaves
//! what was, and perhaps files that no record leads to, which
//! [`Store::collect`] removes.
//!
//! # Locks
//! - `lock`: shared by everybody who adds to the store, from the first byte to
//!   the record; exclusive for who removes what no record leads to.
//! - `names.lock`: exclusive for a change of names or records, for an instant.
//! - An image's record: shared by who uses its files, exclusive for who removes
//!   it.
//!
//! They are taken in this order. All are `flock`s: the kernel gives them back
//! when a process dies.

mod disk;
mod fsck;
mod gc;
mod images;
mod layers;
mod names;
mod record;
mod usage;

pub use fsck::{Finding, Repair};
pub use gc::Collected;
pub use images::{Image, InUse, short};
pub use layers::Layer;
pub use record::{Blob, ImageRecord, LayerRecord};
pub use usage::{Amount, ImageUsage, LayerUsage, Usage};

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};
use crate::layer::Limits;
use crate::pool::Pool;

/// The format of the tree on disk; another number is another format.
const VERSION: &str = "1";

/// An open store. Threads may share it.
pub struct Store {
    root: PathBuf,
    pool: Pool,
    /// What a layer may cost.
    pub limits: Limits,
}

/// Proof that nobody removes what no record leads to.
pub struct Adding {
    _lock: File,
}

impl Store {
    /// The store in this directory, made if it is not there.
    ///
    /// # Errors
    /// A sentence that names the directory; a store of another format is left
    /// alone, and so is a directory of something else.
    pub fn open(root: impl Into<PathBuf>) -> Result<Store> {
        Store::open_or_make(root.into()).map_err(|error| match error.kind() {
            Kind::Denied => {
                error.hint("name a store that you may write: runion --root DIR, or RUNION_ROOT=DIR")
            }
            _ => error,
        })
    }

    fn open_or_make(root: PathBuf) -> Result<Store> {
        let opening = || format!("open the store {}", root.display());
        // Objects are readable for all who reach them, and an image may hold secrets.
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(&root).context(opening)?;
        if is_something_else(&root).context(opening)? {
            let message = format!("{} has files in it, and none of a store", root.display());
            return Err(
                Error::new(Kind::Invalid, message).hint("name an empty directory, or one that is not there")
            );
        }
        let pool = Pool::open(&root).context(opening)?;
        for dir in ["layers", "images", "blobs/sha256", "indexes"] {
            std::fs::create_dir_all(root.join(dir)).context(opening)?;
        }
        let store = Store { root, pool, limits: Limits::default() };
        store.check_version()?;
        Ok(store)
    }

    fn check_version(&self) -> Result<()> {
        let path = self.root.join("version");
        match std::fs::read_to_string(&path) {
            Ok(found) if found.trim_end() == VERSION => Ok(()),
            Ok(found) => {
                let message = format!("the store {} has format {:?}", self.root.display(), found.trim_end());
                Err(Error::new(Kind::Invalid, message).hint(format!(
                    "this program knows format {VERSION} only; use the one that made the store"
                )))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Both locks are there from now on: on a full disk none could be made,
                // and no garbage removed.
                let _adding = self.adding()?;
                self.lock("names.lock", rustix::fs::FlockOperation::LockShared)?;
                self.replace(&path, format!("{VERSION}\n").as_bytes())
            }
            Err(error) => Err(error).context(|| format!("read {}", path.display())),
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The contents of files.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The directory a union is given beside an image's index.
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// Begins to add: until the proof is dropped nothing that is added is
    /// removed for lack of a record.
    pub fn adding(&self) -> Result<Adding> {
        Ok(Adding { _lock: self.lock("lock", rustix::fs::FlockOperation::LockShared)? })
    }

    /// Adds by `add`, whose failure leaves no garbage.
    pub(crate) fn add_whole<T>(&self, add: impl FnOnce(&Adding) -> Result<T>) -> Result<T> {
        let adding = self.adding()?;
        let added = add(&adding);
        drop(adding);
        if added.is_err() {
            self.collect_if_possible();
        }
        added
    }

    /// Collects unless somebody adds, or it cannot be done: then the garbage waits
    /// for the next collection, and the error that left it is the one to be told.
    fn collect_if_possible(&self) {
        self.try_collect().map(drop).unwrap_or_default();
    }
}

/// Whether there is something in a directory and it is no store. What others make
/// of it at the moment begins with `objects`.
fn is_something_else(root: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(root)? {
        if entry?.file_name() != "lost+found" {
            return Ok(!["objects", "version"].iter().any(|name| root.join(name).exists()));
        }
    }
    Ok(false)
}
