//! Compares what the union shows with what its lowers alone would show.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::lower::{Found, LowerDir, Lowers};
use super::upper::{self, Below, Entry, EntryKind};
use super::{Change, Kind, marks};
use crate::config::Namespace;
use crate::error::Result;
use crate::name::{Name, NameBuf};
use crate::sys::at::{self, Stat, Target};

/// A comparison under way: where it is, and what it found.
pub struct Comparison<'a> {
    lowers: &'a Lowers,
    namespace: Namespace,
    path: Vec<u8>,
    changes: Vec<(Vec<u8>, Kind)>,
}

/// What a directory of the union held before.
#[derive(Clone, Copy)]
pub enum Old<'a> {
    /// The very directories that are merged into it now: only names in the
    /// upper can differ.
    Same,
    /// These.
    Other(&'a [LowerDir]),
}

/// What the union shows under a name.
enum New {
    Nothing,
    /// A file of the upper.
    Fresh,
    /// A file of a lower.
    Lower(Stat),
    /// A directory: its part in the upper, the rest, and whether that rest is
    /// what was there before.
    Directory(Option<UpperDir>, Vec<LowerDir>, Below),
}

struct UpperDir {
    stat: Stat,
    fd: OwnedFd,
}

impl<'a> Comparison<'a> {
    /// At the root, with nothing found yet.
    pub fn new(lowers: &'a Lowers, namespace: Namespace) -> Self {
        Comparison { lowers, namespace, path: Vec::new(), changes: Vec::new() }
    }

    /// What was found, by path.
    pub fn finish(mut self) -> Vec<Change> {
        self.changes.sort();
        let change =
            |(path, kind): (Vec<u8>, Kind)| Change { path: PathBuf::from(OsStr::from_bytes(&path)), kind };
        self.changes.into_iter().map(change).collect()
    }

    /// Compares a directory merged from `top` and `below` with what it was.
    pub fn directory(&mut self, top: Option<BorrowedFd<'_>>, below: &[LowerDir], old: Old<'_>) -> Result<()> {
        let entries = match top {
            Some(top) => upper::read(top, self.namespace)?,
            None => Vec::new(),
        };
        let names = match old {
            Old::Same => entries.iter().map(|entry| entry.name.clone()).collect(),
            Old::Other(others) => self.all_names(&entries, below, others)?,
        };
        for name in names {
            let before = match old {
                Old::Same => self.lowers.child(below, name.as_name())?,
                Old::Other(others) => self.lowers.child(others, name.as_name())?,
            };
            let now = self.shown(top, &entries, below, name.as_name())?;
            self.path.push(b'/');
            self.path.extend_from_slice(name.as_name().bytes());
            self.entry(&before, now)?;
            self.path.truncate(self.path.len() - name.as_name().bytes().len() - 1);
        }
        Ok(())
    }

    fn all_names(&self, entries: &[Entry], below: &[LowerDir], old: &[LowerDir]) -> Result<Vec<NameBuf>> {
        let mut names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
        names.extend(self.lowers.names(below)?);
        names.extend(self.lowers.names(old)?);
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What the union shows under one name of a directory.
    fn shown(
        &self,
        top: Option<BorrowedFd<'_>>,
        entries: &[Entry],
        below: &[LowerDir],
        name: Name<'_>,
    ) -> Result<New> {
        let listed = entries.binary_search_by(|entry| entry.name.as_name().cmp(&name));
        let entry = listed.ok().and_then(|index| entries.get(index));
        let (Some(entry), Some(top)) = (entry, top) else {
            return Ok(match self.lowers.child(below, name)? {
                Found::Nothing => New::Nothing,
                Found::File(stat) => New::Lower(stat),
                Found::Directory(_, merged) => New::Directory(None, merged, Below::SameName),
            });
        };
        let (stat, seen) = match &entry.kind {
            EntryKind::Whiteout => return Ok(New::Nothing),
            EntryKind::File(..) => return Ok(New::Fresh),
            EntryKind::Directory(stat, seen) => (*stat, seen.clone()),
        };
        let merged = match &seen {
            Below::Nothing => Vec::new(),
            Below::Redirected(redirect) => self.lowers.redirected(below, 0, redirect)?,
            Below::SameName => match self.lowers.child(below, name)? {
                Found::Directory(_, merged) => merged,
                Found::Nothing | Found::File(_) => Vec::new(),
            },
        };
        Ok(New::Directory(Some(UpperDir { stat, fd: upper::open_child(top, name)? }), merged, seen))
    }

    /// Compares what one path shows now with what it showed before.
    fn entry(&mut self, before: &Found, now: New) -> Result<()> {
        match (before, now) {
            (Found::Nothing, New::Nothing) => {}
            (_, New::Nothing) => self.found(Kind::Deleted),
            (Found::Nothing, New::Fresh | New::Lower(_)) => self.found(Kind::Added),
            (_, New::Fresh) => self.found(Kind::Changed),
            (Found::File(old), New::Lower(new)) if is_same_file(old, &new) => {}
            (_, New::Lower(_)) => self.found(Kind::Changed),
            (before, New::Directory(top, below, seen)) => self.subdirectory(before, top, &below, &seen)?,
        }
        Ok(())
    }

    fn subdirectory(
        &mut self,
        before: &Found,
        top: Option<UpperDir>,
        below: &[LowerDir],
        seen: &Below,
    ) -> Result<()> {
        let top_fd = top.as_ref().map(|top| top.fd.as_fd());
        let (old_stat, old) = match before {
            Found::Directory(stat, old) => (stat, old),
            Found::Nothing | Found::File(_) => {
                self.found(if matches!(before, Found::Nothing) { Kind::Added } else { Kind::Changed });
                return self.directory(top_fd, below, Old::Other(&[]));
            }
        };
        let is_same = is_same_merge(below, old);
        if is_same && top.is_none() {
            return Ok(());
        }
        let so_far = self.changes.len();
        self.directory(top_fd, below, if is_same { Old::Same } else { Old::Other(old) })?;
        let replaced = *seen != Below::SameName;
        if replaced || self.changes.len() > so_far || self.metadata_differs(top.as_ref(), old_stat, old)? {
            self.found(Kind::Changed);
        }
        Ok(())
    }

    fn metadata_differs(&self, top: Option<&UpperDir>, old: &Stat, lower: &[LowerDir]) -> Result<bool> {
        let (Some(top), Some(lower)) = (top, lower.first()) else { return Ok(false) };
        let of = |stat: &Stat| (stat.mode, stat.uid, stat.gid);
        if of(&top.stat) != of(old) {
            return Ok(true);
        }
        let new = marks::visible_attributes(Target::Fd(top.fd.as_fd()), self.namespace)?;
        Ok(new != marks::visible_attributes(Target::Fd(lower.fd()), self.namespace)?)
    }

    fn found(&mut self, kind: Kind) {
        self.changes.push((self.path.clone(), kind));
    }
}

/// Whether a directory is merged from the same directories as before. The
/// layers say it: a merge is a run of directories of one history, so it is
/// enough to compare the inodes.
fn is_same_merge(now: &[LowerDir], before: &[LowerDir]) -> bool {
    let id = |dir: &LowerDir| at::stat_fd(dir.fd()).map(|stat| (stat.dev, stat.ino));
    now.len() == before.len() && now.iter().zip(before).all(|(a, b)| id(a).is_ok_and(|a| id(b) == Ok(a)))
}

fn is_same_file(old: &Stat, new: &Stat) -> bool {
    (old.dev, old.ino) == (new.dev, new.ino)
}
