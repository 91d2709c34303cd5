//! From the mount command to the first answer.

use std::io;
use std::os::fd::AsFd;

use super::{Bare, Group, Needs, Repeat, Workload};
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::Stage;
use crate::walk;

pub const WORKLOADS: &[Workload] =
    &[of("mount-1", 1), of("mount-8", 8), of("mount-64", 64), of("mount-128", 128)];

const fn of(name: &'static str, lowers: usize) -> Workload {
    Workload {
        name,
        group: Group::Metadata,
        about: "the mount program, until it returns, and the first listing of the root",
        tree: Tree::Plain,
        lowers,
        bare: Bare::Whole,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run,
    }
}

fn run(stage: &mut Stage) -> io::Result<()> {
    stage.measure("to first ls", Unit::Seconds, 1, |stage| {
        let root = stage.mount()?;
        walk::names(walk::open(&root)?.as_fd()).map(|_| ())
    })
}
