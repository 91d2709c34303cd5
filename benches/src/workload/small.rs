//! Reading many small files.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::figure::Unit;
use crate::layers::{Tree, small::path_of};
use crate::stage::Stage;
use crate::walk;

pub const WORKLOADS: &[Workload] = &[Workload {
    name: "small-read",
    group: Group::Data,
    about: "open, read and close 20,000 files of 0.5 to 8 KB by path, twice",
    tree: Tree::Small,
    lowers: LOWERS,
    bare: Bare::Whole,
    needs: Needs::Layers,
    repeat: Repeat::EachRound,
    run,
}];

fn run(stage: &mut Stage) -> io::Result<()> {
    let paths: Vec<String> = (0..stage.sizes().small_files).map(path_of).collect();
    let root = walk::open(&stage.mount()?)?;
    for pass in ["cold", "warm"] {
        stage.measure(pass, Unit::SecondsEach, paths.len(), |_| read_each(&root, &paths))?;
    }
    Ok(())
}

fn read_each(root: &OwnedFd, paths: &[String]) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    for path in paths {
        let file = openat(root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        if rustix::io::read(&file, &mut buffer)? == 0 {
            return Err(io::Error::other(format!("{path}: empty")));
        }
    }
    Ok(())
}
