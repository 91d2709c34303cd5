//! Where `cp` puts something: docker's table of what is there and what comes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use super::name::{End, Name};
use crate::failure::{Context, Failure, Result};
use crate::files::Place;
use crate::reach::{Reached, inside};

/// What is where something is to go.
pub enum Target {
    /// A directory.
    Dir(OwnedFd),
    /// Something else, with its directory.
    File(OwnedFd, Vec<u8>),
    /// Nothing, in a directory; a slash at its end asks for one to be there.
    Missing(OwnedFd, Vec<u8>, End),
}

/// As many links lead to one another, as in the kernel.
const LINKS: usize = 40;

impl Target {
    /// A path of the host's.
    pub fn on_host(typed: &str) -> Result<Target> {
        let name = Name::on_host(typed)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let path = Path::new(typed);
        match openat(CWD, path, flags | OFlags::DIRECTORY, Mode::empty()) {
            Ok(dir) => return Ok(Target::Dir(dir)),
            Err(Errno::NOTDIR | Errno::NOENT) => {}
            Err(errno) => return Err(errno).context(|| format!("cannot open {typed}")),
        }
        let plain = typed.trim_end_matches("/.").trim_end_matches('/');
        // What a link leads to is replaced, not the link.
        let real = Path::new(plain).canonicalize();
        let is_there = real.is_ok();
        let real = match real {
            Ok(real) => real,
            Err(_missing) => std::path::absolute(plain).context(|| format!("cannot find {typed}"))?,
        };
        let (Some(parent), Some(last)) = (real.parent(), real.file_name()) else {
            return Err(Failure::failed(format!("cannot write to {typed}")));
        };
        let dir = openat(CWD, parent, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|_errno| {
            let shown = parent.display();
            Failure::as_docker(format!("invalid output path: directory \"{shown}\" does not exist"))
        })?;
        let last = std::os::unix::ffi::OsStrExt::as_bytes(last).to_vec();
        if !is_there {
            return Ok(Target::Missing(dir, last, name.end));
        }
        let stat =
            statat(&dir, &*last, AtFlags::SYMLINK_NOFOLLOW).context(|| format!("cannot look at {typed}"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if name.end == End::Plain => Ok(Target::File(dir, last)),
            FileType::RegularFile => Err(Failure::as_docker(format!("{typed}: not a directory"))),
            _ => Err(Failure::as_docker(format!(
                "invalid output path: \"{typed}\" must be a directory or a regular file"
            ))),
        }
    }

    /// A path of a container's; links lead within it. `text` is how it was called.
    pub fn in_container(reached: &Reached, name: &Name, text: &str) -> Result<Target> {
        let root = reached.root.as_fd();
        let context = || format!("cannot open {} in the container", name.shown());
        let mut path = name.path.clone();
        for _ in 0..LINKS {
            match inside(root, &*path, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(dir) => return Ok(Target::Dir(dir)),
                Err(Errno::NOTDIR | Errno::NOENT) => {}
                Err(errno) => return Err(errno).context(context),
            }
            let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            let (parent, last) = path.split_at(at);
            let last = last.strip_prefix(b"/").unwrap_or(last);
            let parent = [parent, b"/"].concat();
            let dir =
                inside(root, &*parent, OFlags::PATH | OFlags::DIRECTORY).map_err(|errno| match errno {
                    Errno::NOENT | Errno::NOTDIR => Failure::as_docker(format!(
                        "Could not find the file {} in container {text}",
                        String::from_utf8_lossy(&parent).trim_end_matches('/')
                    )),
                    errno => Failure::failed(format!("{}: {errno}", context())),
                })?;
            let stat = match statat(&dir, last, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(Target::Missing(dir, last.to_vec(), name.end)),
                stat => stat.context(context)?,
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                // With a slash behind it, docker does not see it.
                return Ok(match name.end {
                    End::Plain => Target::File(dir, last.to_vec()),
                    End::Slash | End::Contents => Target::Missing(dir, last.to_vec(), name.end),
                });
            }
            let link = readlinkat(&dir, last, Vec::new()).context(context)?.into_bytes();
            path = match link.starts_with(b"/") {
                true => link,
                false => [&parent[..], &link].concat(),
            };
            while path.len() > 1 && path.last() == Some(&b'/') {
                path.pop();
            }
        }
        Err(Failure::failed(format!("{}: {}", context(), Errno::LOOP)))
    }

    /// The directory that files are put into.
    pub fn dir(&self) -> BorrowedFd<'_> {
        match self {
            Target::Dir(dir) | Target::File(dir, _) | Target::Missing(dir, ..) => dir.as_fd(),
        }
    }

    /// What a source is called there, in [`Target::dir`]; `.` is what is in it.
    pub fn name_for<'n>(&'n self, is_dir: bool, from: &'n Name) -> Result<&'n [u8]> {
        match self.place(is_dir, from)? {
            Place::As(_, name) => Ok(name),
            Place::Into(_) | Place::Over(_) => Ok(b"."),
        }
    }

    /// Where a source goes, if it can.
    pub fn place<'n>(&'n self, is_dir: bool, from: &'n Name) -> Result<Place<'n>> {
        match (self, is_dir) {
            (Target::Dir(dir), true) if from.end == End::Contents => Ok(Place::Into(dir.as_fd())),
            (Target::Dir(dir), _) => Ok(Place::As(dir.as_fd(), &from.base)),
            (Target::File(..), true) => Err(Failure::as_docker("cannot copy directory")),
            (Target::Missing(_, _, End::Slash | End::Contents), false) => {
                Err(Failure::as_docker("no such directory"))
            }
            (Target::File(dir, name) | Target::Missing(dir, name, _), _) => Ok(Place::As(dir.as_fd(), name)),
        }
    }
}
