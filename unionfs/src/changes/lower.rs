//! Names in the lowers, merged as the union merges them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use super::marks;
use super::upper::{self, Below, Birth, Data, EntryKind};
use crate::config::Namespace;
use crate::error::Result;
use crate::name::{Name, NameBuf};
use crate::ondisk::redirect::Redirect;
use crate::ondisk::whiteout::{self, NameMeaning};
use crate::sys::at::{self, Stat, Target};

/// The lower layers, open.
pub struct Lowers {
    roots: Vec<LowerDir>,
    namespace: Namespace,
}

/// One layer's part of a merged directory.
#[derive(Clone)]
pub struct LowerDir {
    layer: usize,
    fd: Rc<OwnedFd>,
}

/// What the lowers have under a name.
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file that is no directory.
    File(Stat),
    /// A directory: the topmost one's metadata, and all that are merged.
    Directory(Stat, Vec<LowerDir>),
}

impl LowerDir {
    /// The directory, open.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Lowers {
    /// Opens the layers, topmost first.
    ///
    /// # Errors
    /// A sentence that names the directory.
    pub fn open(lowers: &[PathBuf], namespace: Namespace) -> Result<Lowers> {
        let open = |(layer, path): (usize, &PathBuf)| Ok(LowerDir { layer, fd: Rc::new(upper::open(path)?) });
        Ok(Lowers { roots: lowers.iter().enumerate().map(open).collect::<Result<_>>()?, namespace })
    }

    /// The roots of all layers: what the union's root is merged from.
    pub fn roots(&self) -> &[LowerDir] {
        &self.roots
    }

    /// Looks a name up in a merged directory.
    ///
    /// # Errors
    /// What reading a layer gives; what may not be read is not there.
    pub fn child(&self, directory: &[LowerDir], name: Name<'_>) -> Result<Found> {
        let mut top = None;
        let mut merged = Vec::new();
        for (index, dir) in directory.iter().enumerate() {
            let (stat, below) = match self.look(dir, name)? {
                None => continue,
                Some(EntryKind::Whiteout) => break,
                Some(EntryKind::File(stat, ..)) if merged.is_empty() => return Ok(Found::File(stat)),
                Some(EntryKind::File(..)) => break,
                Some(EntryKind::Directory(stat, below)) => (stat, below),
            };
            top.get_or_insert(stat);
            let fd = at::open_dir(dir.fd(), name)?;
            merged.push(LowerDir { layer: dir.layer, fd: Rc::new(fd) });
            match below {
                Below::SameName => {}
                Below::Nothing => break,
                Below::Redirected(redirect) => {
                    let rest = directory.get(index + 1..).unwrap_or_default();
                    merged.extend(self.redirected(rest, dir.layer + 1, &redirect)?);
                    break;
                }
            }
        }
        Ok(top.map_or(Found::Nothing, |stat| Found::Directory(stat, merged)))
    }

    /// The directories that a redirect leads to: from beside `siblings`, or
    /// from the roots of the layers from `first_layer` on.
    ///
    /// # Errors
    /// As [`Lowers::child`].
    pub fn redirected(
        &self,
        siblings: &[LowerDir],
        first_layer: usize,
        redirect: &Redirect,
    ) -> Result<Vec<LowerDir>> {
        let (mut here, parts) = match redirect {
            Redirect::Sibling(name) => (siblings.to_vec(), std::slice::from_ref(name)),
            Redirect::Absolute(parts) => {
                (self.roots.get(first_layer..).unwrap_or_default().to_vec(), &parts[..])
            }
        };
        for part in parts {
            here = match self.child(&here, part.as_name())? {
                Found::Directory(_, merged) => merged,
                Found::Nothing | Found::File(_) => return Ok(Vec::new()),
            };
        }
        Ok(here)
    }

    /// The names in a merged directory; some may be whited out.
    ///
    /// # Errors
    /// What reading a layer gives; what may not be read has no names.
    pub fn names(&self, directory: &[LowerDir]) -> Result<Vec<NameBuf>> {
        let mut names = Vec::new();
        for dir in directory {
            let readable = match openat(dir.fd(), c".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::ACCESS) => continue,
                readable => readable?,
            };
            let entries = Dir::new(readable)?;
            for entry in entries {
                let entry = entry?;
                let bytes = entry.file_name().to_bytes();
                if bytes == b"." || bytes == b".." {
                    continue;
                }
                let name = Name::new(bytes)?;
                if whiteout::meaning(bytes) == NameMeaning::Entry {
                    names.push(name.to_buf());
                }
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// One layer's entry, whiteouts in both forms included.
    fn look(&self, dir: &LowerDir, name: Name<'_>) -> Result<Option<EntryKind>> {
        let holds_xattr_whiteouts = match marks::holds_xattr_whiteouts(dir.fd(), self.namespace) {
            Err(error) if error.errno() == Errno::ACCESS => false,
            holds => holds?,
        };
        let found = match upper::look(dir.fd(), name, holds_xattr_whiteouts, self.namespace) {
            Err(error) if error.errno() == Errno::ACCESS => unmarked(dir.fd(), name)?,
            found => found.map_err(|error| error.context(format!("cannot read {name:?} in a lower")))?,
        };
        match found {
            None if marks::has_whiteout_file(dir.fd(), name)? => Ok(Some(EntryKind::Whiteout)),
            found => Ok(found),
        }
    }
}

/// An entry whose marks an ordinary user may not read; nor could the union he
/// ran. Nothing below what he may not even search was changed.
fn unmarked(directory: BorrowedFd<'_>, name: Name<'_>) -> Result<Option<EntryKind>> {
    let stat = match at::stat(Target::At(directory, name)) {
        Err(Errno::NOENT | Errno::ACCESS) => return Ok(None),
        stat => stat?,
    };
    Ok(Some(match stat.kind() {
        FileType::Directory => EntryKind::Directory(stat, Below::SameName),
        _ => EntryKind::File(stat, Data::Own, Birth::Made),
    }))
}
