//! Walking a Debian tree, and asking it for names that it does not have.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use super::{Bare, Group, Needs, Repeat, Workload};
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::Stage;
use crate::walk;

pub const WORKLOADS: &[Workload] = &[
    walk_of("stat-walk-1", 1),
    walk_of("stat-walk-8", 8),
    walk_of("stat-walk-64", 64),
    walk_of("stat-walk-128", 128),
    absent_of("absent-1", 1),
    absent_of("absent-8", 8),
    absent_of("absent-64", 64),
    absent_of("absent-128", 128),
];

/// Absent names that are asked of each directory.
const ABSENT: usize = 5;
/// Directories asked at most: each is held open.
const DIRECTORIES: usize = 1000;

const fn walk_of(name: &'static str, lowers: usize) -> Workload {
    Workload {
        name,
        group: Group::Metadata,
        about: "list every directory of a Debian tree and stat every entry, twice",
        tree: Tree::Debian,
        lowers,
        bare: Bare::Whole,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run: stat_walk,
    }
}

const fn absent_of(name: &'static str, lowers: usize) -> Workload {
    Workload {
        name,
        group: Group::Metadata,
        about: "open each directory of a Debian tree, and stat 5 absent names in it: the first one, four more, all again",
        tree: Tree::Debian,
        lowers,
        bare: Bare::Whole,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run: absent,
    }
}

fn stat_walk(stage: &mut Stage) -> io::Result<()> {
    let limit = stage.sizes().tree_entries;
    let entries = walk::stat_all(&stage.layers().whole, limit)?;
    let root = stage.mount()?;
    for pass in ["cold", "warm"] {
        stage.measure(pass, Unit::SecondsEach, entries, |_| walk::stat_all(&root, limit).map(|_| ()))?;
    }
    Ok(())
}

/// Some list a directory when it is opened, some for the first name that is
/// asked for.
fn absent(stage: &mut Stage) -> io::Result<()> {
    let limit = stage.sizes().tree_entries;
    let whole = walk::paths(&stage.layers().whole)?;
    let root = stage.mount()?;
    let directories = whole.iter().take(limit).filter(|(_, kind)| *kind == FileType::Directory);
    let open = |(path, _): &(std::path::PathBuf, FileType)| walk::open(&root.join(path));
    let wanted: Vec<_> = directories.take(DIRECTORIES).collect();
    let mut directories: Vec<OwnedFd> = Vec::new();
    stage.measure("open", Unit::SecondsEach, wanted.len(), |_| {
        directories = wanted.iter().copied().map(open).collect::<io::Result<_>>()?;
        Ok(())
    })?;
    let names: Vec<CString> =
        (0..ABSENT).map(|i| CString::new(format!("absent-{i}"))).collect::<Result<_, _>>()?;
    let (first, more) = names.split_at(1);
    for (figure, names) in [("first", first), ("more", more), ("again", &names)] {
        stage.measure(figure, Unit::SecondsEach, directories.len() * names.len(), |_| {
            ask_for(&directories, names, &root)
        })?;
    }
    Ok(())
}

fn ask_for(directories: &[OwnedFd], names: &[CString], root: &Path) -> io::Result<()> {
    for dir in directories {
        for name in names {
            match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Err(io::Error::other(format!("{}: has {name:?}", root.display()))),
            }
        }
    }
    Ok(())
}
