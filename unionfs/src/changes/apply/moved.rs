//! What renames led away: set aside first, so that no deletion or replacement
//! can hit it, then taken to its new place.
//!
//! A directory is renamed within its parent; of a file whose data a metacopy
//! refers to, a second link is made there. The innermost come first: what lies
//! in a moved directory is found under its old path.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;

use super::super::upper::{self, Below, Data, EntryKind};
use super::{Spot, id, rename_to_free_name, temporary_name};
use crate::config::Namespace;
use crate::error::{Error, Result};
use crate::name::NameBuf;
use crate::ondisk::redirect::Redirect;
use crate::sys::at::{self, Target};

/// Things set aside, by the inode of the upper that refers to them.
pub struct Moved {
    aside: HashMap<(u64, u64), Aside>,
}

/// One thing set aside.
pub enum Aside {
    /// A directory of the lower.
    Directory {
        /// Where it is now.
        now: Spot,
        /// Where it was.
        was: Spot,
    },
    /// A second link to a file of the lower.
    File(Spot),
}

/// A redirect in the upper: who has it, and what it leads to.
struct Reference {
    upper: (u64, u64),
    kind: Kind,
    path: Vec<NameBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
}

impl Moved {
    /// Finds every redirect of the upper and sets aside what it leads to.
    pub fn set_aside(upper: BorrowedFd<'_>, root: &Rc<OwnedFd>, namespace: Namespace) -> Result<Moved> {
        let mut references = Vec::new();
        collect(upper, Some(&[]), namespace, &mut references)?;
        references.sort_by_key(|reference| std::cmp::Reverse(reference.path.len()));
        let mut moved = Moved { aside: HashMap::new() };
        for (number, reference) in (0..).zip(&references) {
            match moved.set_one_aside(root, reference, number) {
                Ok(()) => {}
                Err(error) => {
                    moved.put_back()?;
                    return Err(error.context(format!("cannot move {}", display(&reference.path))));
                }
            }
        }
        Ok(moved)
    }

    fn set_one_aside(&mut self, root: &Rc<OwnedFd>, reference: &Reference, number: u64) -> Result<()> {
        if self.aside.contains_key(&reference.upper) {
            return Ok(());
        }
        let Some((name, parents)) = reference.path.split_last() else { return Ok(()) };
        let mut dir = Rc::clone(root);
        for parent in parents {
            dir = match at::open_dir(dir.as_fd(), parent.as_name()) {
                // An earlier, interrupted application has moved it already.
                Err(Errno::NOENT) => return Ok(()),
                opened => Rc::new(opened?),
            };
        }
        let was = Spot { dir: Rc::clone(&dir), name: name.clone() };
        let now = Spot { dir, name: temporary_name("moved", number)? };
        let done = match reference.kind {
            Kind::Directory => rename_to_free_name(&was, &now),
            Kind::File => {
                at::link(Target::At(was.dir.as_fd(), name.as_name()), now.dir.as_fd(), now.name.as_name())
            }
        };
        match done {
            Err(Errno::NOENT) => return Ok(()),
            done => done?,
        }
        let aside = match reference.kind {
            Kind::Directory => Aside::Directory { now, was },
            Kind::File => Aside::File(now),
        };
        self.aside.insert(reference.upper, aside);
        Ok(())
    }

    /// The directory that a directory of the upper refers to.
    pub fn directory(&self, upper: (u64, u64)) -> Option<&Spot> {
        match self.aside.get(&upper) {
            Some(Aside::Directory { now, .. }) => Some(now),
            Some(Aside::File(_)) | None => None,
        }
    }

    /// The directory has its new place.
    pub fn is_placed(&mut self, upper: (u64, u64)) {
        self.aside.remove(&upper);
    }

    /// The file whose data a metacopy refers to.
    pub fn data(&self, upper: (u64, u64)) -> Option<&Spot> {
        match self.aside.get(&upper) {
            Some(Aside::File(spot)) => Some(spot),
            Some(Aside::Directory { .. }) | None => None,
        }
    }

    /// Puts back what has found no new place, and removes the second links.
    pub fn put_back(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        for (_, aside) in self.aside.drain() {
            let done = match &aside {
                Aside::Directory { now, was } => rename_to_free_name(now, was),
                Aside::File(spot) => {
                    keeping_times(spot, || at::unlink(spot.dir.as_fd(), spot.name.as_name()))
                }
            };
            if let Err(errno) = done {
                outcome =
                    Err(Error::from(errno)
                        .context("cannot remove what was set aside (.runion-commit-moved-*)"));
            }
        }
        outcome
    }
}

/// Takes something out of a directory that has its final times already.
pub fn keeping_times(from: &Spot, taking: impl FnOnce() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let before = at::stat_fd(from.dir.as_fd())?;
    taking()?;
    match at::copy_times(Target::Fd(from.dir.as_fd()), &before) {
        // In another's directory an ordinary user may rename and set no times.
        Err(Errno::PERM) => Ok(()),
        set => set,
    }
}

/// Walks the upper, with the path in the lower of what is merged below it.
fn collect(
    upper: BorrowedFd<'_>,
    below: Option<&[NameBuf]>,
    namespace: Namespace,
    found: &mut Vec<Reference>,
) -> Result<()> {
    for entry in upper::read(upper, namespace)? {
        let same = below.map(|path| child(path, &entry.name));
        match &entry.kind {
            EntryKind::Whiteout => {}
            EntryKind::File(stat, Data::Lower(Some(redirect)), _) => {
                if let Some(path) = target(redirect, below) {
                    found.push(Reference { upper: id(stat), kind: Kind::File, path });
                }
            }
            EntryKind::File(..) => {}
            EntryKind::Directory(stat, seen) => {
                let below = match seen {
                    Below::Nothing => None,
                    Below::SameName => same,
                    Below::Redirected(redirect) => target(redirect, below),
                };
                if let (Below::Redirected(_), Some(path)) = (seen, &below) {
                    found.push(Reference { upper: id(stat), kind: Kind::Directory, path: path.clone() });
                }
                let directory = upper::open_child(upper, entry.name.as_name())?;
                collect(directory.as_fd(), below.as_deref(), namespace, found)?;
            }
        }
    }
    Ok(())
}

/// The path in the lower that a redirect leads to.
fn target(redirect: &Redirect, below: Option<&[NameBuf]>) -> Option<Vec<NameBuf>> {
    match redirect {
        Redirect::Absolute(path) => Some(path.clone()),
        Redirect::Sibling(name) => below.map(|path| child(path, name)),
    }
}

fn child(path: &[NameBuf], name: &NameBuf) -> Vec<NameBuf> {
    path.iter().chain([name]).cloned().collect()
}

fn display(path: &[NameBuf]) -> String {
    path.iter().map(|name| format!("/{}", name.as_name().bytes().escape_ascii())).collect()
}
