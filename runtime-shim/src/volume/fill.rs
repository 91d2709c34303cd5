//! A volume that is empty is filled once from what the image has at its target,
//! before the container's first process sees it.
//!
//! Two containers that start at once fill it once: by the volume's lock. Who is
//! killed half way leaves a volume that says so; the next goes over all of it
//! again, and replaces what is there.

use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::driver::{self, Source};
use super::{Fill, Volume, Volumes};
use crate::container::{Record, Wish};
use crate::failure::{Context, Failure, Result};
use crate::files::{self, Borders, Maps, Owners, Packed, Place};
use crate::reach;

impl Volumes {
    /// Readies a container's volumes, its root being mounted and nothing on it.
    pub fn ready(&self, record: &Record, root: BorrowedFd<'_>) -> Result<()> {
        let config = &record.config;
        let maps = Maps { users: config.uid_map.clone(), groups: config.gid_map.clone() };
        for wish in &config.mounts {
            let Wish::Volume { name, destination, anonymous, fill, .. } = wish else { continue };
            // One that was removed before its container could hold it is made anew.
            let known =
                self.create(&Volume { name: name.clone(), anonymous: *anonymous, ..Volume::default() })?;
            if *fill && known.fill != Fill::Done {
                self.fill(name, root, destination, &maps).map_err(|failure| {
                    Failure::new(format!("cannot fill the volume {name}: {}", failure.message()))
                })?;
            }
        }
        Ok(())
    }

    fn fill(&self, name: &str, root: BorrowedFd<'_>, target: &Path, maps: &Maps) -> Result<()> {
        let _lock = self.lock(name)?;
        let mut volume = self.find(name)?;
        let data = match driver::source(name, &volume.options)? {
            Source::Own => self.data(name),
            Source::Directory { path, .. } => path,
            Source::Temporary { .. } => return Ok(()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let to = openat(CWD, &data, flags, Mode::empty()).context(|| format!("open {}", data.display()))?;
        let settled = match (volume.fill, is_empty(&to)?) {
            (Fill::Done, _) => return Ok(()),
            (Fill::Pending, false) => true,
            (Fill::Pending | Fill::Begun, _) => false,
        };
        if !settled {
            let Some(from) = directory(root, target)? else {
                // Fresh, and nobody's but the host's: the container's root is to have it.
                return give(&to, maps);
            };
            volume.fill = Fill::Begun;
            self.write(&volume)?;
            copy(from, &to)?;
        }
        volume.fill = Fill::Done;
        self.write(&volume)
    }
}

/// The directory that the image has at a path, links followed within it.
fn directory(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>> {
    match reach::inside(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        found => found.context(|| format!("open {} of the image", path.display())).map(Some),
    }
}

fn is_empty(dir: &OwnedFd) -> Result<bool> {
    let context = || "list it".to_owned();
    for entry in rustix::fs::Dir::read_from(dir).context(context)? {
        let entry = entry.context(context)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn give(dir: &OwnedFd, maps: &Maps) -> Result<()> {
    let stat = rustix::fs::fstat(dir).context(|| "look at it".to_owned())?;
    let (uid, gid) = maps.outside(0, 0);
    if (stat.st_uid, stat.st_gid) != (0, 0) || (uid, gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    match rustix::fs::fchown(dir, Some(uid), Some(gid)) {
        // The container has no root, or not here.
        Err(Errno::INVAL) => Ok(()),
        given => given.context(|| "give it to the container".to_owned()),
    }
}

/// All files, as they are on disk under the container's maps: what is mounted
/// shows them so already.
fn copy(from: OwnedFd, to: &OwnedFd) -> Result<()> {
    let owners = Owners::Kept(Maps::default());
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe".to_owned())?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| files::pack(from, b".", &owners, Borders::Mounts, File::from(writer)));
        let reader = BufReader::with_capacity(1 << 17, File::from(reader));
        let unpacked = files::unpack(reader, &Place::Over(to.as_fd()), &owners);
        (packing.join(), unpacked)
    });
    // A reader that failed leaves nobody to write to; a writer that failed, a
    // stream cut short.
    match packed.unwrap_or_else(|_| Err(Failure::new("the thread that reads it died")))? {
        Packed::Whole | Packed::Unread => unpacked,
    }
}
