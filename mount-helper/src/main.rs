//! `mount-runionfs`, also called `mount.runionfs` and `runionfs`: mounts a
//! union file system and serves it until it is unmounted.
//!
//! Knows options and one session. What was typed (`args`, `options` into a
//! `draft`) becomes what is meant (`request`), is checked (`checks`), mounted
//! (`mount`, `fusermount`) and served (`daemon`). What files look like is the
//! library's; nothing here reads a layer.

mod args;
mod checks;
mod daemon;
mod draft;
mod failure;
mod fusermount;
mod mount;
mod mountinfo;
mod options;
mod paths;
mod remount;
mod request;
mod signals;
mod standing;
mod sys;
mod values;

use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use args::{Command, Run, Typed};
use draft::Draft;
use failure::{Failure, Result};
use standing::Standing;

fn main() -> ExitCode {
    let inherited = sys::inherited_descriptors();
    match run(inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let program = args::program(std::env::args_os().next().as_deref());
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(inherited: Vec<RawFd>) -> Result<()> {
    let command = match args::parse(std::env::args_os())? {
        Typed::Help => return say(HELP),
        Typed::Version => return say(concat!("runionfs: version ", env!("CARGO_PKG_VERSION"), "\n")),
        Typed::Mount(command) => command,
    };
    let mut draft = Draft::default();
    for options in &command.options {
        options::apply(&mut draft, options.as_bytes(), command.unknown)?;
    }
    enter(&command)?;
    match (draft.remount, command.run) {
        (true, Run::Fake) => Ok(()),
        (true, _) => remount::remount(&draft, &command.mountpoint),
        (false, run) => {
            let run = if draft.foreground && run == Run::Background { Run::Foreground } else { run };
            daemon::mount(request::settle(draft, &command, Standing::of_caller())?, run, inherited)
        }
    }
}

/// mount(8)'s `-N`: everything from here on happens in that mount namespace.
fn enter(command: &Command) -> Result<()> {
    let Some(path) = &command.namespace else { return Ok(()) };
    let refused =
        |error: std::io::Error| Failure::refused(format!("cannot enter namespace {}", path.display()), error);
    let namespace = std::fs::File::open(path).map_err(refused)?;
    let kind = rustix::thread::LinkNameSpaceType::Mount;
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(kind))
        .map_err(|errno| refused(errno.into()))
}

fn say(text: &str) -> Result<()> {
    let written = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    written.map_err(|error| Failure::system("cannot write", error))
}

const HELP: &str = "\
usage: runionfs [SOURCE] MOUNTPOINT -o lowerdir=TOP:BELOW:…[,upperdir=DIR,workdir=DIR][,OPTION…]
       mount -t runionfs SOURCE MOUNTPOINT -o …
       fusermount3 -u MOUNTPOINT

Shows directories merged into one: the lowers read-only, changes in the upper.

  -o OPTION,…    options, in the words of kernel overlayfs, fuse-overlayfs and
                 mount(8); \\ before a comma or colon makes it part of a path
  -f             stay in the foreground (called mount.runionfs: check only)
  -d, --debug    stay in the foreground
  -s             serve with one thread (called mount.runionfs: skip unknown options)
  -r, -w         mount read-only, read-write
  -V, --version  print the version
  -h, --help     print this

Options most used:
  lowerdir=A:B::C       layers, topmost first; after :: layers of file data only
  lowerdir+=DIR         one more layer below, any number of times
  lowersfile=FILE       more layers, one a line
  upperdir=, workdir=   where changes go, and their staging, on one mount
  redirect_dir=, metacopy=, index=, xino=, volatile, userxattr
  uidmapping=, gidmapping=, squash_to_root, xattr_permissions=
  suid, dev             otherwise nosuid,nodev
  threads=N             threads that serve

Exit codes: 0 mounted, 1 usage, 2 system, 32 the mount failed.
All options: mount.runionfs(8).
";
