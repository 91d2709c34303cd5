//! Mounting a union by each of the programs, and what /proc says of a mount.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::candidate::Program;
use crate::plan::Plan;

/// The directories of one union.
pub struct Union<'a> {
    /// Read-only layers, topmost first.
    pub lowers: &'a [PathBuf],
    /// Where changes go.
    pub upper: &'a Path,
    /// Where they are staged.
    pub work: &'a Path,
    /// Where the union is seen.
    pub root: &'a Path,
}

/// Mounts the union as the plan's candidate does; returns when the program
/// says that it is usable.
///
/// # Errors
/// What the kernel or the program says.
pub fn mount(plan: &Plan, union: &Union<'_>) -> io::Result<()> {
    let mut command = match plan.candidate.program {
        Program::Bare => return Ok(()),
        Program::Overlay => return overlay(union, &plan.candidate.options),
        Program::FuseOverlayfs1 => with_options(Command::new("fuse-overlayfs"), plan, union)?,
        Program::FuseOverlayfs2 => with_options(Command::new(&plan.fuse_overlayfs_2), plan, union)?,
        Program::UnionfsFuse => branches(plan, union),
        Program::Ours => {
            // By this name it takes mount(8)'s words, and gives root suid and dev.
            let mut command = Command::new(&plan.ours);
            command.arg0("mount.runionfs").arg("union");
            with_options(command, plan, union)?
        }
    };
    start(&mut command, union)
}

fn with_options(mut command: Command, plan: &Plan, union: &Union<'_>) -> io::Result<Command> {
    let mut text = String::from("lowerdir=");
    for (number, lower) in union.lowers.iter().enumerate() {
        if number > 0 {
            text.push(':');
        }
        text.push_str(plain(lower)?);
    }
    text = format!("{text},upperdir={},workdir={}", plain(union.upper)?, plain(union.work)?);
    for option in &plan.candidate.options {
        text.push(',');
        text.push_str(option);
    }
    if plan.candidate.program == Program::Ours {
        command.arg(union.root).args(["-o", &text]);
    } else {
        command.args(["-o", &text]).arg(union.root);
    }
    Ok(command)
}

/// A path that needs no escaping, as each program escapes in its own way.
///
/// # Errors
/// That it would need some.
pub fn plain(path: &Path) -> io::Result<&str> {
    match path.to_str() {
        Some(text) if !text.contains([':', ',', '\\', '=']) => Ok(text),
        _ => Err(io::Error::other(format!(
            "{}: a path with one of :,\\= in it\nhint: move the target directory",
            path.display()
        ))),
    }
}

fn branches(plan: &Plan, union: &Union<'_>) -> Command {
    let mut branches = format!("{}=RW", union.upper.display());
    for lower in union.lowers {
        branches.push_str(&format!(":{}=RO", lower.display()));
    }
    let options: Vec<&str> =
        ["cow", "allow_other"].into_iter().chain(plan.candidate.options.iter().map(String::as_str)).collect();
    let mut command = Command::new("unionfs");
    command.args(["-o", &options.join(",")]).arg(branches).arg(union.root);
    command
}

/// Runs a program that returns when the mount is usable and leaves a daemon.
///
/// # Errors
/// What the program says.
pub fn start(command: &mut Command, union: &Union<'_>) -> io::Result<()> {
    // Files, not pipes: the daemon keeps them, and must not block on us.
    let log = union.work.with_extension("log");
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?)
        .status()
        .map_err(|e| io::Error::new(e.kind(), format!("cannot run {name}: {e}")))?;
    if status.success() && mounted(union.root)?.is_some() {
        return Ok(());
    }
    let said = fs::read_to_string(&log)?;
    Err(io::Error::other(match said.trim().lines().next() {
        Some(line) => line.to_owned(),
        None => format!("{name}: {status}"),
    }))
}

/// Mounts kernel overlayfs option by option: nothing needs escaping, and no page
/// limits the number of lowers. Options are set after the layers.
///
/// # Errors
/// What the kernel says.
pub fn overlay(union: &Union<'_>, options: &[String]) -> io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in union.lowers {
        fsconfig_set_string(&context, "lowerdir+", lower)?;
    }
    fsconfig_set_string(&context, "upperdir", union.upper)?;
    fsconfig_set_string(&context, "workdir", union.work)?;
    for option in options {
        match option.split_once('=') {
            Some((name, value)) => fsconfig_set_string(&context, name, value)?,
            None => fsconfig_set_flag(&context, option.as_str())?,
        }
    }
    let made = fsconfig_create(&context);
    made.map_err(|e| io::Error::other(format!("overlay: {e}: {}", kernel_says(&context))))?;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mounted.as_fd(), "", rustix::fs::CWD, union.root, flags).map_err(Into::into)
}

fn kernel_says(context: &OwnedFd) -> String {
    let mut text = Vec::new();
    let mut message = [0; 4096];
    while let Ok(length) = rustix::io::read(context, &mut message) {
        text.extend_from_slice(&message[..length]);
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// The minor device number of what is mounted on `path`, without asking the
/// file system itself.
///
/// # Errors
/// Those of reading /proc.
pub fn mounted(path: &Path) -> io::Result<Option<u32>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next()?;
        let point = fields.nth(1)?;
        if Path::new(point) == path { device.split_once(':')?.1.parse().ok() } else { None }
    }))
}
