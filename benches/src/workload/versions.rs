//! git in the union.

use std::io;
use std::process::Command;

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::errors::run;
use crate::figure::Unit;
use crate::layers::{Tree, git::git};
use crate::stage::Stage;

pub const WORKLOADS: &[Workload] = &[
    of("git-status", "git status of a lower repository of 2,000 files; the first one reads them all", status),
    of("git-clone", "git clone of a repository of 2,000 files into the union", clone),
];

const fn of(name: &'static str, about: &'static str, run: fn(&mut Stage) -> io::Result<()>) -> Workload {
    Workload {
        name,
        group: Group::Programs,
        about,
        tree: Tree::Repository,
        lowers: LOWERS,
        bare: Bare::Copy,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run,
    }
}

fn status(stage: &mut Stage) -> io::Result<()> {
    let repository = stage.mount()?.join("repository");
    let mut status = git(&repository);
    status.args(["status", "--porcelain"]);
    for pass in ["first", "second", "third"] {
        stage.measure(pass, Unit::Seconds, 1, |_| nothing_changed(&mut status))?;
    }
    Ok(())
}

fn nothing_changed(status: &mut Command) -> io::Result<()> {
    let output = status.output()?;
    match output.status.success() && output.stdout.is_empty() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "git status: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        ))),
    }
}

fn clone(stage: &mut Stage) -> io::Result<()> {
    let from = stage.layers().whole.join("repository");
    let root = stage.mount()?;
    let mut clone = git(&root);
    clone.args(["clone", "-q", "--no-hardlinks"]).arg(from).arg("clone");
    stage.measure("clone", Unit::Seconds, 1, |_| run(&mut clone))
}
