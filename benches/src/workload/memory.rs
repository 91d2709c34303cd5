//! What the daemon remembers of a tree that was walked once.

use std::io;

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::{Stage, unsupported};
use crate::walk;

pub const WORKLOADS: &[Workload] = &[Workload {
    name: "memory",
    group: Group::Load,
    about: "resident memory of the daemon after a walk of a million files, for each of them",
    tree: Tree::Many,
    lowers: LOWERS,
    bare: Bare::None,
    needs: Needs::Layers,
    repeat: Repeat::Once,
    run,
}];

fn run(stage: &mut Stage) -> io::Result<()> {
    let files = stage.sizes().many_files;
    let root = stage.mount()?;
    let Some(before) = stage.resident()? else {
        return Err(unsupported("no daemon, whose memory would be measured"));
    };
    let mut found = 0;
    stage.measure("walk", Unit::SecondsEach, files, |_| {
        found = walk::stat_all(&root, usize::MAX)?;
        Ok(())
    })?;
    let after = stage.resident()?.unwrap_or(before);
    if found < files {
        return Err(io::Error::other(format!("walked {found} files of {files}")));
    }
    stage.report("each file", Unit::Bytes, after.saturating_sub(before) as f64 / found as f64)?;
    stage.report("all", Unit::Bytes, after as f64)
}
