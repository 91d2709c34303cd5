//! What an upper changes about the lowers below it, as `docker diff` words it.
//!
//! Reads the upper, and of the lowers only what the upper names: the cost is
//! that of the changes, not of the tree. Works without a mount, on uppers of
//! ours, of kernel overlayfs and of fuse-overlayfs.
//!
//! - [`upper`] reads one directory of an upper: what stands there, and with
//!   which mark. Whoever applies an upper to its lower starts from it, too.
//! - [`lower`] looks names up in the lowers, merging them as the union does.
//! - This file compares the two.
//!
//! An entry of the upper counts as changed because it is there: it was copied
//! up for a change. Directories are copied up for their children's sake as well,
//! so they count only if their own metadata or something below them changed.
//! A renamed directory is its old name deleted, its new one added.

mod apply;
mod compare;
mod conflicts;
mod lower;
mod marks;
mod removal;
#[cfg(test)]
mod tests;
pub mod upper;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::config::Namespace;
use crate::error::{Error, Result};

pub use crate::ondisk::origin::Origin;
pub use crate::ondisk::redirect::Redirect;
pub use apply::apply;
pub use conflicts::{Conflict, ConflictKind, conflicts};
pub use removal::remove_tree;

use compare::{Comparison, Old};

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// From the root of the union, beginning with a slash.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: Kind,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It was not there before.
    Added,
    /// It was there and is different now; a directory also where something
    /// below it is.
    Changed,
    /// It is no longer there, nor is anything below it.
    Deleted,
}

impl Kind {
    /// The letter `docker diff` prints: `A`, `C` or `D`.
    pub fn letter(self) -> char {
        match self {
            Kind::Added => 'A',
            Kind::Changed => 'C',
            Kind::Deleted => 'D',
        }
    }
}

/// Lists what `upper` changes about `lowers` (topmost first), by path. Marks are
/// read in `namespace`, the one the upper was written in: in the other they are
/// data of whoever used the union.
///
/// # Errors
/// A sentence that names the directory that cannot be read.
pub fn list(upper: &Path, lowers: &[PathBuf], namespace: Namespace) -> Result<Vec<Change>> {
    on_a_deep_stack(|| {
        let lowers = lower::Lowers::open(lowers, namespace)?;
        let top = upper::open(upper)?;
        let mut comparison = Comparison::new(&lowers, namespace);
        comparison.directory(Some(top.as_fd()), lowers.roots(), Old::Same)?;
        Ok(comparison.finish())
    })
}

/// Room for a walk as deep as descriptors last: address space only, of which
/// the walk takes a few KiB for each level.
const DEEP_STACK: usize = 1 << 30;

/// Walks a tree by recursion, whose depth is up to whoever made the tree.
fn on_a_deep_stack<T: Send>(walk: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let walker = std::thread::Builder::new().stack_size(DEEP_STACK).spawn_scoped(scope, walk);
        let walker = walker.map_err(|error| Error::new(errno(&error), "cannot make a thread"))?;
        // The walk does not panic; if it did, that is not this caller's answer.
        walker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
