//! One real directory's entries, with its whiteouts told apart: in every form
//! they are learnt here and nowhere else.

use rustix::fs::FileType;
use rustix::io::Errno;

use super::layer::Layers;
use super::real::{Held, RealDir};
use crate::config::Namespace;
use crate::error::{Error, Result};
use crate::name::{Name, NameBuf};
use crate::ondisk::marks::{Marks, Opacity};
use crate::ondisk::whiteout::{self, NameMeaning};
use crate::sync::Arc;
use crate::sys::at::DirEntry;

/// One entry.
pub struct Listed {
    /// Its name.
    pub name: NameBuf,
    /// Its type.
    pub kind: FileType,
    /// Its inode number, as the directory has it.
    pub ino: u64,
}

/// One real directory's entries.
#[derive(Default)]
pub struct Listing {
    /// The file system it is on, see [`Layers::device`].
    pub device: u16,
    /// What is there, with its type.
    pub entries: Vec<Listed>,
    /// What is hidden below.
    pub whiteouts: Vec<NameBuf>,
    /// Whether a file in here says that nothing below shows.
    pub opaque: bool,
    /// Whether the directory says that entries may have come from a lower; of
    /// the upper's directories alone.
    pub impure: bool,
}

impl Listing {
    /// Lists a directory.
    ///
    /// # Errors
    /// What opening or reading it gave.
    pub fn read(dir: &Arc<RealDir>, layers: &Layers) -> Result<Listing> {
        // Nothing has more.
        Ok(Listing::read_at_most(dir, layers, usize::MAX)?.unwrap_or_default())
    }

    /// As [`Listing::read`]; `None` for a directory of more than `most` names.
    ///
    /// # Errors
    /// As [`Listing::read`].
    pub fn read_at_most(dir: &Arc<RealDir>, layers: &Layers, most: usize) -> Result<Option<Listing>> {
        let context = |error: Error| error.context("cannot list a layer's directory");
        let unlisted = dir.unlisted(&layers.fds).map_err(context)?;
        let device = layers.device_in(dir.layer, unlisted.held())?;
        let mut listing = Listing { device, ..Listing::default() };
        let mut suspects = Vec::new();
        let mut room = most;
        let visit = |entry: DirEntry<'_>| -> Result<()> {
            room = room.checked_sub(1).ok_or(Errno::TOOBIG)?;
            match whiteout::meaning(entry.name) {
                NameMeaning::Opaque => listing.opaque = true,
                NameMeaning::Reserved => {}
                NameMeaning::Whiteout(name) => listing.whiteouts.push(name.to_buf()),
                NameMeaning::Entry => {
                    let name = Name::new(entry.name)?;
                    let may_be_hidden = dir.layer > 0 && layers.hides() && entry.kind == FileType::Directory;
                    let is_unclear = entry.kind == FileType::Unknown || whiteout::is_suspect(entry.kind);
                    if is_unclear || may_be_hidden {
                        suspects.push(name.to_buf());
                    } else {
                        listing.entries.push(Listed {
                            name: name.to_buf(),
                            kind: entry.kind,
                            ino: entry.ino,
                        });
                    }
                }
            }
            Ok(())
        };
        let held = match unlisted.list(&layers.fds, visit) {
            Err(error) if error.errno() == Errno::TOOBIG => return Ok(None),
            listed => listed.map_err(context)?,
        };
        for name in suspects {
            listing.look_at(layers, &held, name)?;
        }
        let opacity = match dir.layer {
            0 if listing.entries.is_empty() => Opacity::Transparent,
            0 => {
                let marks = Marks::read(held.object(), layers.namespace)?;
                listing.impure = marks.impure;
                marks.opacity
            }
            _ if !listing.has_files() => Opacity::Transparent,
            _ => lower_opacity(dir, layers)?,
        };
        if opacity == Opacity::XattrWhiteouts {
            listing.take_xattr_whiteouts(&held, layers.namespace)?;
        }
        Ok(Some(listing))
    }

    fn has_files(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == FileType::RegularFile)
    }

    fn look_at(&mut self, layers: &Layers, dir: &Held, name: NameBuf) -> Result<()> {
        let stat = dir.at(name.as_name())?.stat()?;
        if layers.is_hidden(&stat) {
            return Ok(());
        }
        if stat.is_whiteout_device() {
            self.whiteouts.push(name);
        } else {
            self.entries.push(Listed { name, kind: stat.kind(), ino: stat.ino });
        }
        Ok(())
    }

    /// In a directory that says it may hold them, empty regular files with the
    /// whiteout attribute are whiteouts.
    fn take_xattr_whiteouts(&mut self, dir: &Held, namespace: Namespace) -> Result<()> {
        let mut kept = Vec::with_capacity(self.entries.len());
        for entry in self.entries.drain(..) {
            let file = dir.at(entry.name.as_name())?;
            let is_whiteout = entry.kind == FileType::RegularFile
                && Marks::read(file, namespace)?.whiteout
                && file.stat()?.size == 0;
            if is_whiteout {
                self.whiteouts.push(entry.name);
            } else {
                kept.push(entry);
            }
        }
        self.entries = kept;
        Ok(())
    }
}

/// What a lower's directory says of the layers below and of its files, read
/// once: a lower does not change.
///
/// # Errors
/// What opening the directory or reading its marks gave.
pub fn lower_opacity(dir: &Arc<RealDir>, layers: &Layers) -> Result<Opacity> {
    if let Some(known) = dir.opacity() {
        return Ok(known);
    }
    let marks = Marks::read(dir.hold(&layers.fds)?.object(), layers.namespace)?;
    dir.note_opacity(marks.opacity);
    Ok(marks.opacity)
}
