//! Copying a large lower file up.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::Stage;

pub const WORKLOADS: &[Workload] = &[
    of("chmod-big", "chmod of a lower file of 1 GiB", chmod),
    of("append-big", "open a lower file of 1 GiB, append one byte, close", append),
];

const fn of(name: &'static str, about: &'static str, run: fn(&mut Stage) -> io::Result<()>) -> Workload {
    Workload {
        name,
        group: Group::Change,
        about,
        tree: Tree::Big,
        lowers: LOWERS,
        bare: Bare::Copy,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run,
    }
}

fn chmod(stage: &mut Stage) -> io::Result<()> {
    let big = stage.mount()?.join("big");
    stage.measure("chmod", Unit::Seconds, 1, |_| fs::set_permissions(&big, Permissions::from_mode(0o600)))
}

fn append(stage: &mut Stage) -> io::Result<()> {
    let big = stage.mount()?.join("big");
    stage
        .measure("append", Unit::Seconds, 1, |_| File::options().append(true).open(&big)?.write_all(b"x"))?;
    match fs::metadata(&big)?.len() == stage.sizes().big_bytes + 1 {
        true => Ok(()),
        false => Err(io::Error::other("the appended byte is not there")),
    }
}
