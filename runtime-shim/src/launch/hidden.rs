//! Paths that show nothing, and paths that cannot be written to.
//!
//! A file is hidden behind the null device of the host, opened before the
//! container's root counts; a directory behind an empty file system.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::devices;
use super::filesystems::{attach, clone_of, make};
use super::options::{Depth, attribute};
use super::target::{self, Links};
use crate::failure::{Context, Failure, Result};
use crate::sys::mounts::{Reach, set_attributes};

/// Hides paths; those that are not there are hidden enough.
pub fn mask(root: BorrowedFd<'_>, paths: &[String]) -> Result<()> {
    let (mut null, mut empty): (Option<OwnedFd>, Option<OwnedFd>) = (None, None);
    for path in paths {
        let context = || format!("cannot hide {path}");
        let Some(place) = find(root, path)? else { continue };
        let is_directory = target::is_directory(place.as_fd()).context(context)?;
        let shown = if is_directory { &mut empty } else { &mut null };
        let cover = match &shown {
            // One that is mounted by now: kernels before 6.15 clone no other.
            Some(shown) => clone_of(shown.as_fd(), Depth::One).context(context)?,
            None if is_directory => nothing()?,
            None => devices::null()?,
        };
        set_attributes(&cover, Reach::Mount, attribute::RDONLY, 0, 0).context(context)?;
        attach(&cover, &place).context(context)?;
        shown.get_or_insert(cover);
    }
    Ok(())
}

/// An empty directory.
fn nothing() -> Result<OwnedFd> {
    let quiet = attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
    make("tmpfs", "tmpfs", &["size=0", "mode=755", "nr_inodes=1"], quiet)
        .context(|| "cannot make an empty directory".to_string())
}

/// Makes paths read-only, with all that is mounted there.
pub fn make_read_only(root: BorrowedFd<'_>, paths: &[String]) -> Result<()> {
    for path in paths {
        let context = || format!("cannot make {path} read-only");
        let Some(place) = find(root, path)? else { continue };
        let tree = clone_of(place.as_fd(), Depth::All).context(context)?;
        set_attributes(&tree, Reach::Tree, attribute::RDONLY, 0, 0).context(context)?;
        attach(&tree, &place).context(context)?;
    }
    Ok(())
}

fn find(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    if !path.starts_with('/') {
        return Err(Failure::new(format!("cannot hide or protect {path:?}: it is not absolute")));
    }
    match target::open(root, Path::new(path), OFlags::PATH, Links::Within) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(errno).context(|| format!("cannot look at the container's {path}")),
    }
}
