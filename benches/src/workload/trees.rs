//! Whole trees unpacked, copied, changed and removed by the system's programs.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::errors::run;
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::Stage;
use crate::walk;

pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "untar",
        group: Group::Change,
        about: "tar -x of 20,000 small files into a new directory",
        tree: Tree::Plain,
        lowers: LOWERS,
        bare: Bare::Copy,
        needs: Needs::Archive,
        repeat: Repeat::EachRound,
        run: untar,
    },
    of("cp", "cp -a of a lower tree of 20,000 small files inside the union", copy),
    of("chmod-tree", "chmod -R of a lower tree of 20,000 small files", chmod),
    of("rm", "rm -rf of a lower tree of 20,000 small files", remove),
];

const fn of(name: &'static str, about: &'static str, run: fn(&mut Stage) -> io::Result<()>) -> Workload {
    Workload {
        name,
        group: Group::Change,
        about,
        tree: Tree::Small,
        lowers: LOWERS,
        bare: Bare::Copy,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run,
    }
}

fn untar(stage: &mut Stage) -> io::Result<()> {
    let (files, archive) = (stage.sizes().small_files, stage.files().archive);
    let into = stage.mount()?.join("unpacked");
    fs::create_dir(&into)?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(archive).arg("-C").arg(&into);
    stage.measure("untar", Unit::Seconds, files, |_| run(&mut tar))?;
    check(&into, files)
}

fn copy(stage: &mut Stage) -> io::Result<()> {
    let files = stage.sizes().small_files;
    let root = stage.mount()?;
    let to = root.join("copy");
    let mut cp = Command::new("cp");
    cp.arg("-a").arg(root.join("tree")).arg(&to);
    stage.measure("cp -a", Unit::Seconds, files, |_| run(&mut cp))?;
    check(&to, files)
}

fn chmod(stage: &mut Stage) -> io::Result<()> {
    let files = stage.sizes().small_files;
    let tree = stage.mount()?.join("tree");
    let mut chmod = Command::new("chmod");
    chmod.args(["-R", "o-r"]).arg(&tree);
    stage.measure("chmod -R", Unit::Seconds, files, |_| run(&mut chmod))?;
    check(&tree, files)
}

fn remove(stage: &mut Stage) -> io::Result<()> {
    let files = stage.sizes().small_files;
    let tree = stage.mount()?.join("tree");
    let mut rm = Command::new("rm");
    rm.arg("-rf").arg(&tree);
    stage.measure("rm -rf", Unit::Seconds, files, |_| run(&mut rm))?;
    match fs::exists(&tree)? {
        true => Err(io::Error::other("the removed tree is still there")),
        false => Ok(()),
    }
}

/// Fast because little was done is not fast.
fn check(tree: &Path, files: usize) -> io::Result<()> {
    let found = walk::stat_all(tree, usize::MAX)?;
    match found >= files {
        true => Ok(()),
        false => Err(io::Error::other(format!("{found} entries where {files} files should be"))),
    }
}
