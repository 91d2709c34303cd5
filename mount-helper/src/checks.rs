//! The directories of a mount, checked against each other before anything is
//! touched: each refusal is one sentence that names both sides.
//!
//! Directories are compared by identity (device and inode), and "inside" is
//! found by walking up through real parents from an open descriptor, so that
//! symlinks and bind mounts do not deceive. Ten thousand lowers share the walk.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;
use unionfs::Config;

use crate::failure::{Failure, Result};

/// Device and inode: which directory it is, by whatever path.
type Identity = (u64, u64);

/// What a directory is for, in the words of the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Lower,
    DataOnly,
    Upper,
    Work,
    MountPoint,
}

/// One directory, as named and as found.
struct Place<'a> {
    role: Role,
    path: &'a Path,
    identity: Identity,
}

/// Checks the directories and opens the mount point.
///
/// # Errors
/// A sentence about the first directory that is missing, is none, cannot be
/// used as asked, or overlaps another.
pub fn directories(config: &Config, mountpoint: &Path) -> Result<OwnedFd> {
    let target = open(Role::MountPoint, mountpoint)?;
    let mut places = vec![Place::of(Role::MountPoint, mountpoint, target.as_fd())?];
    if let Some(dirs) = &config.upper {
        let upper = open(Role::Upper, &dirs.upper)?;
        let work = open(Role::Work, &dirs.work)?;
        places.push(Place::of(Role::Upper, &dirs.upper, upper.as_fd())?);
        places.push(Place::of(Role::Work, &dirs.work, work.as_fd())?);
        same_mount(&dirs.upper, upper.as_fd(), &dirs.work, work.as_fd())?;
        writable(&dirs.upper, upper.as_fd())?;
    }
    let lowers = config.lowers.iter().map(|path| (Role::Lower, path));
    let data_only = config.data_only.iter().map(|path| (Role::DataOnly, path));
    for (role, path) in lowers.chain(data_only) {
        if role == Role::Lower && path.is_file() {
            // What is in an index overlaps nothing.
            index(path)?;
            continue;
        }
        let lower = open(role, path)?;
        places.push(Place::of(role, path, lower.as_fd())?);
    }
    let hidden = hidden(config)?;
    apart(&places, &hidden)?;
    Ok(target)
}

impl<'a> Place<'a> {
    fn of(role: Role, path: &'a Path, fd: BorrowedFd<'_>) -> Result<Self> {
        match identity(fd) {
            Ok(identity) => Ok(Place { role, path, identity }),
            Err(Errno::NOTCONN) => {
                let message = format!("{role} {} is a FUSE mount whose server is gone", path.display());
                Err(Failure::mount(message).hint(format!("umount -l {}", path.display())))
            }
            Err(errno) => Err(Failure::refused(format!("cannot look at {role} {}", path.display()), errno)),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.path.display())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Lower => "lowerdir",
            Role::DataOnly => "data-only lowerdir",
            Role::Upper => "upperdir",
            Role::Work => "workdir",
            Role::MountPoint => "mount point",
        })
    }
}

fn identity(fd: BorrowedFd<'_>) -> rustix::io::Result<Identity> {
    rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}

fn open(role: Role, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
        let shown = path.display();
        match errno {
            Errno::NOENT => Failure::mount(format!("{role} {shown} does not exist")),
            Errno::NOTDIR => Failure::mount(format!("{role} {shown} is not a directory")),
            Errno::NOTCONN => Failure::mount(format!("{role} {shown} is a FUSE mount whose server is gone"))
                .hint(format!("umount -l {shown}")),
            errno => Failure::refused(format!("cannot open {role} {shown}"), errno),
        }
    })
}

/// A lower that is no directory must be an image's index.
fn index(path: &Path) -> Result<()> {
    let shown = path.display();
    let file = std::fs::File::open(path)
        .map_err(|error| Failure::mount(format!("cannot open lowerdir {shown}: {error}")))?;
    match unionfs::image::Index::open(&file) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Failure::mount(format!("lowerdir {shown} is not a directory, nor an image index: {error}")))
        }
    }
}

/// Changes are staged in the working directory and renamed into the upper,
/// which works within one mount only.
fn same_mount(upper: &Path, upper_fd: BorrowedFd<'_>, work: &Path, work_fd: BorrowedFd<'_>) -> Result<()> {
    let mount = |fd, path: &Path| -> Result<(u32, u32, u64)> {
        let found = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .map_err(|errno| Failure::refused(format!("cannot look at {}", path.display()), errno))?;
        Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id))
    };
    match mount(upper_fd, upper)? == mount(work_fd, work)? {
        true => Ok(()),
        false => {
            let (upper, work) = (upper.display(), work.display());
            let message = format!("upperdir {upper} and workdir {work} are on different file systems");
            Err(Failure::mount(message).hint("they must be on one mount of one file system"))
        }
    }
}

fn writable(upper: &Path, fd: BorrowedFd<'_>) -> Result<()> {
    let shown = upper.display();
    let found = rustix::fs::fstatvfs(fd);
    let found = found.map_err(|errno| Failure::refused(format!("cannot look at upperdir {shown}"), errno))?;
    match found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        true => Err(Failure::mount(format!("upperdir {shown} is on a read-only mount"))
            .hint("without upperdir and workdir the union is read-only")),
        false => Ok(()),
    }
}

/// The hidden directories; one that is not there would hide nothing.
fn hidden(config: &Config) -> Result<HashSet<Identity>> {
    let identity = |path: &PathBuf| match rustix::fs::stat(path) {
        Ok(stat) => Ok((stat.st_dev, stat.st_ino)),
        Err(Errno::NOENT) => Err(Failure::mount(format!("hide={} does not exist", path.display()))),
        Err(errno) => Err(Failure::refused(format!("cannot look at hide={}", path.display()), errno)),
    };
    config.hidden.iter().map(identity).collect()
}

/// No directory may be another, nor inside another, except inside a hidden
/// part of a lower.
fn apart(places: &[Place<'_>], hidden: &HashSet<Identity>) -> Result<()> {
    let mut roots: HashMap<Identity, &Place<'_>> = HashMap::with_capacity(places.len());
    for place in places {
        if let Some(other) = roots.insert(place.identity, place) {
            return Err(Failure::mount(format!("{other} and {place} are the same directory")));
        }
    }
    // Directories known to have nothing of ours above them.
    let mut clear = HashSet::new();
    for place in places {
        let Some(outer) = enclosing(place, &roots, hidden, &mut clear)? else { continue };
        let failure = Failure::mount(format!("{place} lies inside {outer}"));
        return Err(match outer.role {
            Role::Lower if place.role != Role::Lower && place.role != Role::DataOnly => {
                failure.hint("hide=DIR leaves a directory of a lower out of the union")
            }
            _ => failure,
        });
    }
    Ok(())
}

/// The nearest of `roots` above a place, if any.
fn enclosing<'a>(
    place: &Place<'_>,
    roots: &HashMap<Identity, &'a Place<'a>>,
    hidden: &HashSet<Identity>,
    clear: &mut HashSet<Identity>,
) -> Result<Option<&'a Place<'a>>> {
    let mut walked = Vec::new();
    let mut below_hidden = hidden.contains(&place.identity);
    let mut here = open(place.role, place.path)?;
    let mut at = place.identity;
    loop {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = match rustix::fs::openat(&here, "..", flags, Mode::empty()) {
            Ok(parent) => parent,
            // Who may not look further up cannot have named anything there.
            Err(Errno::ACCESS | Errno::PERM) => break,
            Err(errno) => return Err(Failure::refused(format!("cannot look above {place}"), errno)),
        };
        let above = identity(parent.as_fd())
            .map_err(|errno| Failure::refused(format!("cannot look above {place}"), errno))?;
        // The root directory is its own parent.
        if above == at || clear.contains(&above) {
            break;
        }
        match roots.get(&above) {
            Some(outer) if !(below_hidden && matches!(outer.role, Role::Lower | Role::DataOnly)) => {
                return Ok(Some(outer));
            }
            _ => {}
        }
        below_hidden |= hidden.contains(&above);
        walked.push(above);
        (here, at) = (parent, above);
    }
    // A walk through a hidden directory passed lowers it did not count.
    if !below_hidden {
        clear.extend(walked);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use unionfs::config::UpperDirs;

    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(dirs: &[&str]) -> Tree {
            let tree = Tree(tempfile::tempdir().unwrap());
            for dir in dirs {
                std::fs::create_dir_all(tree.at(dir)).unwrap();
            }
            tree
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn check(
            &self,
            lowers: &[&str],
            upper: Option<(&str, &str)>,
            mount: &str,
            hide: &[&str],
        ) -> Result<OwnedFd> {
            let config = Config {
                lowers: lowers.iter().map(|name| self.at(name)).collect(),
                upper: upper.map(|(upper, work)| UpperDirs { upper: self.at(upper), work: self.at(work) }),
                hidden: hide.iter().map(|name| self.at(name)).collect(),
                ..Config::default()
            };
            directories(&config, &self.at(mount))
        }
    }

    #[test]
    fn ordinary_layouts_pass() {
        let tree = Tree::new(&["l", "l2", "c/u", "c/w", "c/m"]);
        std::os::unix::fs::symlink("l2", tree.at("link")).unwrap();
        tree.check(&["l", "link"], Some(("c/u", "c/w")), "c/m", &[]).unwrap();
        tree.check(&["l"], None, "c/m", &[]).unwrap();
    }

    #[test]
    fn overlaps_are_named_from_both_sides() {
        let tree = Tree::new(&["l/s/w", "l2", "u/in", "w", "m/in"]);
        std::os::unix::fs::symlink("l", tree.at("link")).unwrap();
        let upper = Some(("u", "w"));
        for (lowers, upper, mount, parts) in [
            (&["l", "l"][..], upper, "m", ["lowerdir", "the same directory"]),
            (&["l", "link"], upper, "m", ["lowerdir", "the same directory"]),
            (&["l", "l/s"], upper, "m", ["/l/s lies inside lowerdir", "/l"]),
            (&["u"], upper, "m", ["upperdir", "the same directory"]),
            (&["u/in"], upper, "m", ["/u/in lies inside upperdir", "/u"]),
            (&["l"], Some(("u", "u")), "m", ["upperdir", "workdir"]),
            (&["l"], Some(("u", "u/in")), "m", ["workdir", "lies inside upperdir"]),
            (&["l"], Some(("u/in", "u")), "m", ["upperdir", "lies inside workdir"]),
            (&["l"], Some(("l/s", "w")), "m", ["upperdir", "lies inside lowerdir"]),
            (&["l"], upper, "l", ["mount point", "lowerdir"]),
            (&["l"], upper, "l/s", ["mount point", "lies inside lowerdir"]),
            (&["m/in"], upper, "m", ["lowerdir", "lies inside mount point"]),
            (&["l"], upper, "u", ["mount point", "upperdir"]),
        ] {
            let failure = tree.check(lowers, upper, mount, &[]).unwrap_err();
            let message = failure.to_string();
            assert!(
                parts.iter().all(|part| message.contains(part)),
                "{lowers:?} {upper:?} {mount}: {message}"
            );
            assert_eq!(failure.code(), 32);
        }
    }

    #[test]
    fn a_hidden_directory_may_hold_the_upper() {
        let tree = Tree::new(&["l/h/u", "l/h/w", "l/h/m", "l/x"]);
        let upper = Some(("l/h/u", "l/h/w"));
        tree.check(&["l"], upper, "l/h/m", &["l/h"]).unwrap();
        tree.check(&["l"], upper, "l/h/m", &["l/x"]).unwrap_err();
        tree.check(&["l"], Some(("l/h/u", "l/h/u")), "l/h/m", &["l/h"]).unwrap_err();
    }

    #[test]
    fn missing_directories_are_named() {
        let tree = Tree::new(&["l", "u", "w", "m"]);
        std::fs::write(tree.at("file"), "").unwrap();
        for (lowers, upper, mount, part) in [
            (&["none"][..], None, "m", "none does not exist"),
            (&["l", "file"], None, "m", "file is not a directory"),
            (&["l"], Some(("none", "w")), "m", "none does not exist"),
            (&["l"], Some(("u", "file")), "m", "file is not a directory"),
            (&["l"], None, "none", "mount point"),
            (&["l"], None, "file", "is not a directory"),
        ] {
            let message = tree.check(lowers, upper, mount, &[]).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn two_file_systems_are_refused() {
        let tree = Tree::new(&["l", "u", "m"]);
        let other = tempfile::tempdir_in("/dev/shm").unwrap();
        if rustix::fs::stat(tree.at("u")).unwrap().st_dev == rustix::fs::stat(other.path()).unwrap().st_dev {
            println!("skipped: the scratch directory and /dev/shm are one file system");
            return;
        }
        let config = Config {
            lowers: vec![tree.at("l")],
            upper: Some(UpperDirs { upper: tree.at("u"), work: other.path().into() }),
            ..Config::default()
        };
        let message = directories(&config, &tree.at("m")).unwrap_err().to_string();
        assert!(message.contains("different file systems") && message.contains("/dev/shm"), "{message}");
    }

    #[test]
    fn thousands_of_lowers_share_the_walk() {
        let names: Vec<String> = (0..2_000).map(|n| format!("deep/er/still/{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let tree = Tree::new(&names);
        std::fs::create_dir(tree.at("m")).unwrap();
        let start = std::time::Instant::now();
        tree.check(&names, None, "m", &[]).unwrap();
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
