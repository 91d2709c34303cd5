//! Storms of one operation on many new files.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, mkdir, openat, renameat, unlinkat};

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::Stage;
use crate::walk;

pub const WORKLOADS: &[Workload] = &[Workload {
    name: "storm",
    group: Group::Change,
    about: "create, rename and unlink 10,000 files of 4 KiB in a new directory",
    tree: Tree::Plain,
    lowers: LOWERS,
    bare: Bare::Copy,
    needs: Needs::Layers,
    repeat: Repeat::EachRound,
    run,
}];

fn run(stage: &mut Stage) -> io::Result<()> {
    let count = stage.sizes().storm_files;
    let root = stage.mount()?;
    let dir = new_directory(&root, "storm")?;
    let (made, moved) = (names("made", count)?, names("moved", count)?);
    stage.measure("create", Unit::SecondsEach, count, |_| made.iter().try_for_each(|n| create(&dir, n)))?;
    stage.measure("rename", Unit::SecondsEach, count, |_| {
        made.iter().zip(&moved).try_for_each(|(from, to)| Ok(renameat(&dir, from, &dir, to)?))
    })?;
    stage.measure("unlink", Unit::SecondsEach, count, |_| {
        moved.iter().try_for_each(|name| Ok(unlinkat(&dir, name, AtFlags::empty())?))
    })
}

/// Makes and opens a directory.
pub fn new_directory(root: &Path, name: &str) -> io::Result<OwnedFd> {
    let path = root.join(name);
    mkdir(&path, Mode::from_raw_mode(0o755))?;
    walk::open(&path)
}

/// So many names with a number.
pub fn names(stem: &str, count: usize) -> io::Result<Vec<CString>> {
    (0..count).map(|i| Ok(CString::new(format!("{stem}-{i:05}"))?)).collect()
}

/// A new file of 4 KiB.
pub fn create(dir: &OwnedFd, name: &CString) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::from_raw_mode(0o644))?;
    rustix::io::write(&file, &[b'x'; 4096])?;
    Ok(())
}
