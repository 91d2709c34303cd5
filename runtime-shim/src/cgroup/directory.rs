//! Directories of groups: made with all their parents, found, and removed.
//!
//! Groups of one name lie at the same path in each hierarchy: below its top
//! where the caller may make groups there (root), else below the highest group
//! above the caller's own that was delegated to him. A delegated group must be
//! above the caller's own, for the kernel moves a process only where its mover
//! may write to what the two groups have in common.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::file;
use super::hierarchy::Mounted;
use crate::failure::{Failure, Result};

/// Parents of this name, or that begin with it, are removed with their last
/// group: all others are somebody else's.
const OURS: &str = "runion";
/// How long the kernel is given to let go of a group whose processes have died.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a parent may vanish, removed by another process with its last
/// group, while a group is made in it.
const ATTEMPTS: u32 = 20;

/// A group's path without a `/` before it, and without anything that leads
/// elsewhere.
pub fn checked(path: &Path) -> Result<PathBuf> {
    let relative: PathBuf =
        path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir)).collect();
    let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    match is_plain && relative.components().next().is_some() {
        true => Ok(relative),
        false => Err(Failure::new(format!("invalid path of a cgroup: {:?}", path.display()))
            .hint("an absolute path without .., such as /runion")),
    }
}

/// Below what groups may be, the best first.
pub fn bases(mounted: &Mounted) -> Vec<PathBuf> {
    let mut bases = vec![mounted.top.clone()];
    bases.extend(delegated(mounted).filter(|base| *base != mounted.top));
    bases
}

/// The highest group above the caller's own that he may make groups in.
fn delegated(mounted: &Mounted) -> Option<PathBuf> {
    let own = mounted.own.as_ref()?;
    let above = own.ancestors().take_while(|group| group.starts_with(&mounted.top));
    above
        .filter(|group| is_writable(group) && is_writable(&group.join("cgroup.procs")))
        .last()
        .map(Path::to_owned)
}

/// By the ids that count for files, not by those of whoever began the program.
pub fn is_writable(path: &Path) -> bool {
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// Makes an empty group below the first base that lets us. `seed` is called
/// with each directory on the way, the group's own last.
pub fn make(
    bases: &[PathBuf],
    relative: &Path,
    seed: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let mut refusal = io::Error::from(ErrorKind::NotFound);
    for base in bases {
        match make_below(base, relative, seed) {
            Err(error) if is_refusal(&error) => refusal = error,
            made => return made,
        }
    }
    Err(refusal)
}

/// Whether the caller is not allowed to, rather than that something is wrong.
pub fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOENT | Errno::NOTSUP | Errno::NODEV)
    )
}

fn make_below(base: &Path, relative: &Path, seed: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let mut attempt = 0;
    loop {
        match make_once(base, relative, seed) {
            Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS && base.is_dir() => {
                attempt += 1;
            }
            made => return made,
        }
    }
}

fn make_once(base: &Path, relative: &Path, seed: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let mut dir = base.to_owned();
    let mut parts = relative.components().peekable();
    while let Some(part) = parts.next() {
        dir.push(part);
        match fs::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Err(_) if parts.peek().is_some() => {}
            // Of a container that a crash left: its limits are not ours.
            Err(_) => {
                remove_tree(&dir, Duration::ZERO)?;
                fs::create_dir(&dir)?;
            }
        }
        seed(&dir)?;
    }
    Ok(dir)
}

/// Groups below this one, itself last.
pub fn tree(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        let entries = match fs::read_dir(&dir) {
            // Groups come and go.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
        groups.push(dir);
    }
    groups.reverse();
    Ok(groups)
}

/// Removes a group and those below it, and its parents of ours with the last.
/// A group that is gone is fine.
pub fn remove(dir: &Path, depth: usize) -> io::Result<()> {
    remove_tree(dir, PATIENCE)?;
    for parent in dir.ancestors().skip(1).take(depth.saturating_sub(1)) {
        let is_ours =
            parent.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(OURS.as_bytes()));
        // Another container's group in it is what keeps it.
        if !is_ours || fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path, patience: Duration) -> io::Result<()> {
    for group in tree(dir)? {
        let mut refused = None;
        let removed = file::wait(patience, || match fs::remove_dir(&group) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                refused = Some(error);
                Ok(false)
            }
            Err(error) => Err(error),
        })?;
        if let (false, Some(error)) = (removed, refused) {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_nowhere_else() {
        assert_eq!(checked(Path::new("/runion/./a")).unwrap(), Path::new("runion/a"));
        for bad in ["", "/", "../x", "/a/../../b"] {
            assert!(checked(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_left_over_group_gives_way_and_parents_go_with_the_last() {
        let base = std::env::temp_dir().join(format!("runion-test-directory-{}", std::process::id()));
        fs::create_dir_all(base.join("runion/a/left/over")).unwrap();
        let seen = std::cell::RefCell::new(Vec::new());
        let seed = |dir: &Path| {
            seen.borrow_mut().push(dir.to_owned());
            Ok(())
        };
        let made = make(&[PathBuf::from("/proc/none"), base.clone()], Path::new("runion/a"), &seed).unwrap();
        assert_eq!(made, base.join("runion/a"));
        assert_eq!(*seen.borrow(), [base.join("runion"), base.join("runion/a")]);
        assert_eq!(fs::read_dir(&made).unwrap().count(), 0);
        fs::create_dir(base.join("runion/b")).unwrap();
        remove(&made, 2).unwrap();
        assert!(base.join("runion").is_dir());
        remove(&made, 2).unwrap();
        remove(&base.join("runion/b"), 2).unwrap();
        assert!(!base.join("runion").exists() && base.is_dir());
        fs::remove_dir(&base).unwrap();
    }
}
