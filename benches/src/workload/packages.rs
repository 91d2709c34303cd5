//! dpkg, which syncs what it unpacks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::errors::run;
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::Stage;

pub const WORKLOADS: &[Workload] = &[Workload {
    name: "dpkg",
    group: Group::Programs,
    about: "dpkg --unpack of 20 packages of 50 files into an empty system; see --upper for its fsyncs",
    tree: Tree::Plain,
    lowers: LOWERS,
    bare: Bare::Copy,
    needs: Needs::Packages,
    repeat: Repeat::EachRound,
    run: unpack,
}];

fn unpack(stage: &mut Stage) -> io::Result<()> {
    let directory = stage.files().packages;
    let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut packages: Vec<PathBuf> = entries.collect::<io::Result<_>>()?;
    packages.sort();
    let root = stage.mount()?;
    empty_database(&root)?;
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", root.display())).args(["--log=/dev/null", "--unpack"]).args(&packages);
    dpkg.env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    stage.measure("unpack", Unit::Seconds, packages.len(), |_| run(&mut dpkg))?;
    match fs::exists(root.join("usr/share/bench-0/file-0"))? {
        true => Ok(()),
        false => Err(io::Error::other("dpkg unpacked nothing")),
    }
}

fn empty_database(root: &Path) -> io::Result<()> {
    let database = root.join("var/lib/dpkg");
    for dir in ["info", "updates", "triggers"] {
        fs::create_dir_all(database.join(dir))?;
    }
    for file in ["status", "available"] {
        fs::write(database.join(file), "")?;
    }
    Ok(())
}
