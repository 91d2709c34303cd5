//! Programs of the Debian tree, run in it: python and a compiler.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::{Bare, Group, LOWERS, Needs, Repeat, Workload};
use crate::errors::run;
use crate::figure::Unit;
use crate::layers::Tree;
use crate::stage::{Stage, unsupported};

pub const WORKLOADS: &[Workload] = &[
    of(
        "python",
        "start python3 of the Debian tree with ten imports, 50 times, in a chroot",
        Bare::Whole,
        python,
    ),
    of("compile", "make -j2 of 40 C files by gcc of the Debian tree, in a chroot", Bare::Copy, compile),
];

const fn of(
    name: &'static str,
    about: &'static str,
    bare: Bare,
    run: fn(&mut Stage) -> io::Result<()>,
) -> Workload {
    Workload {
        name,
        group: Group::Programs,
        about,
        tree: Tree::Debian,
        lowers: LOWERS,
        bare,
        needs: Needs::Layers,
        repeat: Repeat::EachRound,
        run,
    }
}

const IMPORTS: &str = "import argparse, asyncio, decimal, email.message, http.client, json, logging, subprocess, unittest, zipfile";

fn python(stage: &mut Stage) -> io::Result<()> {
    let starts = stage.sizes().starts;
    let root = stage.mount()?;
    // -B: what python would write is not what is measured.
    let mut python = inside(&root, "usr/bin/python3", &["-B", "-c", IMPORTS])?;
    stage.measure("first", Unit::Seconds, 1, |_| run(&mut python))?;
    stage.measure("each of many", Unit::SecondsEach, starts, |_| {
        (0..starts).try_for_each(|_| run(&mut python))
    })
}

fn compile(stage: &mut Stage) -> io::Result<()> {
    let sources = stage.sizes().sources;
    let root = stage.mount()?;
    let mut make = inside(&root, "usr/bin/make", &["-s", "-j2", "-C", "/sources"])?;
    write_sources(&root.join("sources"), sources)?;
    stage.measure("make -j2", Unit::Seconds, sources, |_| run(&mut make))?;
    match fs::exists(root.join(format!("sources/part-{}.o", sources - 1)))? {
        true => Ok(()),
        false => Err(io::Error::other("make left no object file")),
    }
}

/// A program of the tree, with the tree as its root.
fn inside(root: &Path, program: &str, arguments: &[&str]) -> io::Result<Command> {
    // A link into the tree is absolute and would be followed outside of it.
    if root.join(program).symlink_metadata().is_err() {
        return Err(unsupported(format!("no {program} in the tree: mmdebstrap did not make it")));
    }
    let mut command = Command::new("chroot");
    command.arg(root).arg(format!("/{program}")).args(arguments);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").env("HOME", "/");
    Ok(command)
}

fn write_sources(dir: &Path, count: usize) -> io::Result<()> {
    fs::create_dir(dir)?;
    let objects: Vec<String> = (0..count).map(|part| format!("part-{part}.o")).collect();
    fs::write(dir.join("Makefile"), format!("all: {}\n", objects.join(" ")))?;
    for part in 0..count {
        let headers = ["stdio", "stdlib", "string", "errno", "time", "sys/types", "sys/stat", "unistd"];
        let mut text: String = headers.iter().map(|name| format!("#include <{name}.h>\n")).collect();
        for function in 0..20 {
            text.push_str(&format!(
                "int f{part}_{function}(int n) {{ char b[64]; snprintf(b, sizeof b, \"%d\", n); \
                 return (int)strlen(b) + {function}; }}\n"
            ));
        }
        fs::write(dir.join(format!("part-{part}.c")), text)?;
    }
    Ok(())
}
