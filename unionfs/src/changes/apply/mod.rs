//! Applies an upper to the one lower it was made over.
//!
//! Each name changes by one system call: what takes its place is made complete
//! under a temporary name beside it and renamed. A whiteout removes, an opaque
//! directory replaces, a metacopy changes metadata in place, a redirect renames
//! the lower's own directory. Hard links within the upper stay links; a copied
//! file that has other names in the lower is written in place, so that they go
//! on naming one file.
//!
//! The whole is no transaction: a kill leaves some names changed, others not,
//! and perhaps `.runion-commit-*` names. The upper is not touched.

mod merge;
mod moved;
mod place;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::RenameFlags;

use super::upper;
use crate::config::Namespace;
use crate::error::Result;
use crate::name::{Name, NameBuf};
use crate::sys::at::Stat;
use moved::Moved;

/// Applies `upper` to `lower` and syncs the file system of the lower's root.
///
/// # Errors
/// A sentence that names the path at which it stopped. What was applied stays
/// applied; directories that were to be renamed are put back.
pub fn apply(upper: &Path, lower: &Path, namespace: Namespace) -> Result<()> {
    super::on_a_deep_stack(|| apply_from_root(upper, lower, namespace))
}

fn apply_from_root(upper: &Path, lower: &Path, namespace: Namespace) -> Result<()> {
    let top = upper::open(upper)?;
    let root = Rc::new(upper::open(lower)?);
    let moved = Moved::set_aside(top.as_fd(), &root, namespace)?;
    let mut commit = Commit {
        namespace,
        moved,
        placed: HashMap::new(),
        temporary: 0,
        is_root: rustix::process::geteuid().is_root(),
    };
    let merged = commit.merge(top.as_fd(), &root, Path::new("/"));
    let put_back = commit.moved.put_back();
    merged?;
    put_back?;
    rustix::fs::syncfs(&*root)?;
    Ok(())
}

/// An application under way.
struct Commit {
    /// Where the upper's marks are.
    namespace: Namespace,
    /// What renames led away, waiting for its new place.
    moved: Moved,
    /// Where files with several names were put, by the upper's inode.
    placed: HashMap<(u64, u64), Spot>,
    /// Temporary names used so far.
    temporary: u64,
    /// Whether files may be given away.
    is_root: bool,
}

/// A name in a directory of the lower.
#[derive(Clone)]
struct Spot {
    dir: Rc<OwnedFd>,
    name: NameBuf,
}

/// What identifies a file of the upper.
fn id(stat: &Stat) -> (u64, u64) {
    (stat.dev, stat.ino)
}

impl Commit {
    /// A name that nothing has, in whatever directory.
    fn temporary_name(&mut self) -> Result<NameBuf> {
        self.temporary += 1;
        temporary_name("new", self.temporary)
    }
}

/// Temporary names tell the process, so that two commits do not meet.
fn temporary_name(kind: &str, number: u64) -> Result<NameBuf> {
    let name = format!(".runion-commit-{kind}-{}-{number}", std::process::id());
    Ok(Name::new(name.as_bytes())?.to_buf())
}

/// Renames over nothing.
fn rename_to_free_name(from: &Spot, to: &Spot) -> rustix::io::Result<()> {
    let (dir, name) = (from.dir.as_fd(), from.name.as_name());
    crate::sys::at::rename(dir, name, to.dir.as_fd(), to.name.as_name(), RenameFlags::NOREPLACE)
}
