//! Where in a container's root something goes.
//!
//! Every path of a container is resolved by the kernel beneath its root, from a
//! descriptor that is held: links lead nowhere else, whoever changes them
//! meanwhile, and what is missing is made inside, one component at a time.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat, openat2};
use rustix::io::Errno;

/// `PROC_SUPER_MAGIC` of linux/magic.h.
const PROC: i64 = 0x9fa0;

/// How often a lookup is begun again that lost a race against a rename.
const PATIENCE: usize = 64;

/// Whether links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Within the root.
    Within,
    /// Not at all: the path itself must be there.
    None,
}

/// The names of a path below the root, `..` taken literally.
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Opens what is there.
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags, links: Links) -> rustix::io::Result<OwnedFd> {
    let path = clean(path);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Not O_NOFOLLOW, with which a descriptor for paths would be the link's own.
    let resolve = match links {
        Links::Within => resolve,
        Links::None => resolve | ResolveFlags::NO_SYMLINKS,
    };
    let mut patience = PATIENCE;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if patience > 0 => patience -= 1,
            opened => return opened,
        }
    }
}

/// Opens a directory, and makes it and those above it if they are missing.
pub fn directory(root: BorrowedFd<'_>, path: &Path, mode: u32, links: Links) -> rustix::io::Result<OwnedFd> {
    let path = clean(path);
    match open(root, &path, OFlags::PATH | OFlags::DIRECTORY, links) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT) };
    let above = directory(root, above, mode, links)?;
    // One that is there now is somebody else's, or a link to nothing, which is
    // told below.
    match mkdirat(&above, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    openat(&above, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Opens whatever is no directory, and makes an empty file if nothing is there.
pub fn file(root: BorrowedFd<'_>, path: &Path, links: Links) -> rustix::io::Result<OwnedFd> {
    let path = clean(path);
    match open(root, &path, OFlags::PATH, links) {
        Err(Errno::NOENT) => {}
        Ok(file) if is_directory(file.as_fd())? => return Err(Errno::ISDIR),
        opened => return opened,
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT) };
    let above = directory(root, above, 0o755, links)?;
    empty_file(above.as_fd(), name)?;
    openat(&above, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Makes an empty file in a directory; one that is there already stays.
pub fn empty_file(directory: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(directory, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether it is one.
pub fn is_directory(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// Whether it lies on a procfs.
pub fn is_on_proc(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(fstatfs(fd)?.f_type == PROC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_dots_stay_below_the_root() {
        let name = format!("/var/tmp/runion-target-{}", std::process::id());
        let (inside, outside) = (format!("{name}/root"), format!("{name}/outside"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, format!("{inside}/absolute")).unwrap();
        std::os::unix::fs::symlink("../outside", format!("{inside}/relative")).unwrap();
        std::os::unix::fs::symlink("/real", format!("{inside}/good")).unwrap();
        std::fs::create_dir(format!("{inside}/real")).unwrap();
        let root = std::fs::File::open(&inside).unwrap();
        let at = |path: &str, links| directory(root.as_fd(), Path::new(path), 0o755, links);
        // A link to nothing is not followed to be made.
        assert!(at("/absolute/made", Links::Within).is_err());
        assert!(at("/relative/made", Links::Within).is_err());
        assert!(file(root.as_fd(), Path::new("/relative/file"), Links::Within).is_err());
        assert!(at("/good/made", Links::None).is_err());
        assert_eq!(at("/good", Links::None).unwrap_err(), Errno::LOOP);
        assert_eq!(file(root.as_fd(), Path::new("/good"), Links::None).unwrap_err(), Errno::LOOP);
        at("/good/made/deep", Links::Within).unwrap();
        at("/../../up/x", Links::Within).unwrap();
        assert!(Path::new(&inside).join("real/made/deep").is_dir());
        assert!(Path::new(&inside).join("up/x").is_dir());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(&name).unwrap().count(), 2);
        std::fs::remove_dir_all(&name).unwrap();
    }
}
