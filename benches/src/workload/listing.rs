//! One large directory: `ls -l`, and renaming it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, statat};

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::errors::run;
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::Stage;
use crate::walk;

pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "ls",
        group: Group::Metadata,
        about: "list one directory of 10,000 names from 8 layers and stat each (ls -l), twice",
        tree: Tree::Flat,
        lowers: LOWERS,
        bare: Bare::Whole,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run: ls,
    },
    Workload {
        name: "large-dir",
        group: Group::Metadata,
        about: "one name of a directory of 10,000 from 8 layers, then an absent one, nothing else having been asked for",
        tree: Tree::Flat,
        lowers: LOWERS,
        bare: Bare::Whole,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run: one_of_many,
    },
    Workload {
        name: "rename-dir",
        group: Group::Change,
        about: "mv of a lower directory of 10,000 names; where it is EXDEV, mv copies",
        tree: Tree::Flat,
        lowers: LOWERS,
        bare: Bare::Copy,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run: rename,
    },
];

fn ls(stage: &mut Stage) -> io::Result<()> {
    let names = stage.sizes().flat_names;
    let root = stage.mount()?;
    for pass in ["cold", "warm"] {
        stage.measure(pass, Unit::SecondsEach, names, |_| list(&root.join("flat"), names))?;
    }
    Ok(())
}

fn one_of_many(stage: &mut Stage) -> io::Result<()> {
    let dir = stage.mount()?.join("flat");
    stage.measure("present", Unit::SecondsEach, 1, |_| {
        fs::symlink_metadata(dir.join("name-00500")).map(drop)
    })?;
    stage.measure("absent", Unit::SecondsEach, 1, |_| match fs::symlink_metadata(dir.join("no-name")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => Err(io::Error::other(format!("no-name: {other:?}"))),
    })?;
    Ok(())
}

/// As ls does: an entry's attributes as soon as its name is read.
fn list(path: &Path, expected: usize) -> io::Result<()> {
    let dir = walk::open(path)?;
    let mut count = 0;
    walk::each_name(dir.as_fd(), |name| {
        statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        count += 1;
        Ok(())
    })?;
    match count == expected {
        true => Ok(()),
        false => Err(io::Error::other(format!("listed {count} entries of {expected}"))),
    }
}

fn rename(stage: &mut Stage) -> io::Result<()> {
    let root = stage.mount()?;
    let (from, to) = (root.join("flat"), root.join("renamed"));
    stage.measure("mv", Unit::Seconds, 1, |_| run(Command::new("mv").args([&from, &to])))?;
    let (expected, found) = (stage.sizes().flat_names, fs::read_dir(&to)?.count());
    match (fs::exists(&from)?, found == expected) {
        (false, true) => Ok(()),
        (true, _) => Err(io::Error::other("the renamed directory is still there under its old name")),
        (_, false) => Err(io::Error::other(format!("the renamed directory has {found} names of {expected}"))),
    }
}
