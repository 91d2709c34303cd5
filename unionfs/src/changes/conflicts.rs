//! What happened to a lower since an upper was begun over it, as far as it
//! matters for applying the one to the other.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::upper::{self, Below, Data, Entry, EntryKind};
use crate::config::Namespace;
use crate::error::Result;
use crate::name::{Name, NameBuf};
use crate::ondisk::redirect::Redirect;
use crate::sys::at::{self, Stat, Target, Time};

/// One path that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// From the root of the lower, beginning with a slash.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ConflictKind,
}

/// What happened in the lower to a path that the upper changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// It, or something below it, was modified or made.
    Modified,
    /// It was removed or renamed.
    Gone,
}

/// Lists the conflicts between `upper` and what happened to `lower` after
/// `since` (by the clock of its file timestamps), by path.
///
/// A file that is already what the upper makes it is none.
///
/// # Errors
/// What reading the two gave.
pub fn conflicts(
    upper: &Path,
    lower: &Path,
    since: SystemTime,
    namespace: Namespace,
) -> Result<Vec<Conflict>> {
    super::on_a_deep_stack(|| {
        let top = upper::open(upper)?;
        let root = upper::open(lower)?;
        let again = root.try_clone().map_err(|error| super::errno(&error))?;
        let mut search = Search { root, namespace, since, found: Vec::new() };
        search.directory(top.as_fd(), Some(&again), Path::new("/"))?;
        search.found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(search.found)
    })
}

struct Search {
    root: OwnedFd,
    namespace: Namespace,
    since: SystemTime,
    found: Vec<Conflict>,
}

impl Search {
    /// Compares a directory of the upper with the one of the lower that is
    /// merged below it.
    fn directory(&mut self, upper: BorrowedFd<'_>, lower: Option<&OwnedFd>, path: &Path) -> Result<()> {
        for entry in upper::read(upper, self.namespace)? {
            let path = path.join(OsStr::from_bytes(entry.name.as_name().bytes()));
            self.entry(upper, lower, &entry, &path)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        upper: BorrowedFd<'_>,
        lower: Option<&OwnedFd>,
        entry: &Entry,
        path: &Path,
    ) -> Result<()> {
        let name = entry.name.as_name();
        let there = match lower {
            Some(lower) => stat_if_there(lower.as_fd(), name)?,
            None => None,
        };
        let is_directory = there.is_some_and(|there| there.kind() == FileType::Directory);
        let (below, keeps_lower) = match &entry.kind {
            EntryKind::Whiteout => return self.replaced(lower, name, there, path),
            EntryKind::File(made, ..) if there.is_some_and(|there| is_applied(made, &there)) => return Ok(()),
            EntryKind::File(_, data, _) => {
                if !self.has_data(data, lower, there)? {
                    self.conflict(path, ConflictKind::Gone);
                }
                return self.replaced(lower, name, there, path);
            }
            EntryKind::Directory(_, Below::SameName) if is_directory => {
                (lower.map(|lower| upper::open_child(lower.as_fd(), name)).transpose()?, true)
            }
            EntryKind::Directory(_, Below::SameName | Below::Nothing) => (None, false),
            EntryKind::Directory(_, Below::Redirected(redirect)) => {
                let source = self.source(lower, redirect)?;
                if source.is_none() {
                    self.conflict(path, ConflictKind::Gone);
                }
                (source.map(|source| at::open_listing(source.as_fd())).transpose()?, false)
            }
        };
        if !keeps_lower {
            self.replaced(lower, name, there, path)?;
        }
        let directory = upper::open_child(upper, name)?;
        self.directory(directory.as_fd(), below.as_ref(), path)
    }

    /// A path of the lower that goes: it must not have changed.
    fn replaced(
        &mut self,
        lower: Option<&OwnedFd>,
        name: Name<'_>,
        there: Option<Stat>,
        path: &Path,
    ) -> Result<()> {
        let (Some(lower), Some(there)) = (lower, there) else { return Ok(()) };
        if self.is_newer(lower.as_fd(), name, &there)? {
            self.conflict(path, ConflictKind::Modified);
        }
        Ok(())
    }

    /// Whether a file, or any file below a directory, changed meanwhile.
    ///
    /// A directory's own times also change by what goes from it, which is no
    /// loss; what comes has times of its own.
    fn is_newer(&self, dir: BorrowedFd<'_>, name: Name<'_>, stat: &Stat) -> Result<bool> {
        if stat.kind() != FileType::Directory {
            return Ok(system_time(stat.ctime) > self.since);
        }
        let directory = upper::open_child(dir, name)?;
        let mut names: Vec<NameBuf> = Vec::new();
        at::list(directory.as_fd(), |entry| -> Result<()> {
            names.push(Name::new(entry.name)?.to_buf());
            Ok(())
        })?;
        for name in names {
            let Some(stat) = stat_if_there(directory.as_fd(), name.as_name())? else { continue };
            if self.is_newer(directory.as_fd(), name.as_name(), &stat)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a redirect leads to in the lower, if it is there.
    fn source(&self, beside: Option<&OwnedFd>, redirect: &Redirect) -> Result<Option<OwnedFd>> {
        let (start, parts) = match redirect {
            Redirect::Sibling(name) => (beside, std::slice::from_ref(name)),
            Redirect::Absolute(parts) => (Some(&self.root), &parts[..]),
        };
        let Some(start) = start else { return Ok(None) };
        let mut here: Option<OwnedFd> = None;
        for part in parts {
            let dir = here.as_ref().unwrap_or(start);
            here = match at::open_path(dir.as_fd(), part.as_name()) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                opened => Some(opened?),
            };
        }
        Ok(here)
    }

    /// Whether the lower still has the data that a file of the upper lacks.
    fn has_data(&self, data: &Data, beside: Option<&OwnedFd>, there: Option<Stat>) -> Result<bool> {
        match data {
            Data::Own => Ok(true),
            Data::Lower(None) => Ok(there.is_some()),
            Data::Lower(Some(redirect)) => Ok(self.source(beside, redirect)?.is_some()),
        }
    }

    fn conflict(&mut self, path: &Path, kind: ConflictKind) {
        self.found.push(Conflict { path: path.to_owned(), kind });
    }
}

/// Whether a file of the lower is what the upper makes it: an application that
/// was interrupted has come this far.
fn is_applied(made: &Stat, there: &Stat) -> bool {
    let of = |stat: &Stat| (stat.mode, stat.size, stat.mtime, stat.rdev);
    of(made) == of(there) && made.kind() != FileType::Directory
}

fn stat_if_there(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<Option<Stat>> {
    match at::stat(Target::At(dir, name)) {
        Err(Errno::NOENT) => Ok(None),
        stat => Ok(Some(stat?)),
    }
}

fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.sec.unsigned_abs());
    let second = if time.sec < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    second + Duration::from_nanos(time.nsec.into())
}
