//! A Debian system as a tree: made by mmdebstrap, split by copying.
//!
//! Without mmdebstrap, files of the host's `/usr/share` stand in; workloads that
//! run programs of the tree are then absent.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, utimensat};

use super::{Layers, remove_if_there};
use crate::errors::{at, run};
use crate::walk;

/// What the workloads run inside, beyond a minimal system.
const INCLUDED: &str = "gcc,libc6-dev,make,git,python3";
/// Entries taken of the host where there is no mmdebstrap.
const STAND_IN: usize = 20_000;

/// The whole tree, made if it is not there.
///
/// # Errors
/// What keeps it from being made.
pub fn make(whole: &Path) -> io::Result<()> {
    if whole.is_dir() {
        return Ok(());
    }
    let part = whole.with_extension("part");
    remove_if_there(&part)?;
    eprintln!("making {} (once, about a minute)", whole.display());
    if let Err(error) = debootstrap(&part) {
        eprintln!("no Debian tree: {error}; files of /usr/share stand in for it");
        remove_if_there(&part)?;
        stand_in(&part)?;
    }
    fs::rename(&part, whole).map_err(|e| at(whole, e))
}

fn debootstrap(part: &Path) -> io::Result<()> {
    if let Some(parent) = part.parent() {
        fs::create_dir_all(parent)?;
    }
    run(Command::new("mmdebstrap")
        .args(["--variant=minbase", "--mode=root", "--quiet", &format!("--include={INCLUDED}")])
        .args([codename().as_ref(), part.as_os_str()]))?;
    // Device nodes are not for layers that a user namespace reads.
    for (path, kind) in walk::paths(&part.join("dev"))?.into_iter().rev() {
        match kind {
            FileType::Directory => fs::remove_dir(part.join("dev").join(path))?,
            _ => fs::remove_file(part.join("dev").join(path))?,
        }
    }
    Ok(())
}

/// The host's own release where the host is a Debian: its keys are there.
fn codename() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    match (field("ID"), field("VERSION_CODENAME")) {
        (Some("debian"), Some(codename)) => codename.to_owned(),
        _ => "bookworm".to_owned(),
    }
}

fn stand_in(part: &Path) -> io::Result<()> {
    take(0..STAND_IN, part)
}

/// Copies those entries of the host's `/usr/share` that have these numbers, and
/// the directories they lie in.
///
/// # Errors
/// Those of reading and writing.
pub fn take(numbers: Range<usize>, part: &Path) -> io::Result<()> {
    let source = Path::new("/usr/share");
    fs::create_dir_all(part)?;
    for (path, kind) in walk::paths(source)?.into_iter().take(numbers.end).skip(numbers.start) {
        if let Some(parent) = path.parent() {
            directories(source, part, parent)?;
        }
        copy(&source.join(&path), &part.join(&path), kind)?;
    }
    Ok(())
}

/// Copies the whole tree into the lowers: each file into one, its directories
/// along with it.
///
/// # Errors
/// Those of reading and writing.
pub fn split(layers: &Layers) -> io::Result<()> {
    let entries = walk::paths(&layers.whole)?;
    for (number, (path, kind)) in entries.iter().enumerate() {
        let Some(lower) = layers.lowers.get(number % layers.lowers.len()) else { continue };
        if let Some(parent) = path.parent() {
            directories(&layers.whole, lower, parent)?;
        }
        copy(&layers.whole.join(path), &lower.join(path), *kind)?;
    }
    // Deepest first: a time set is not disturbed any more.
    for (path, _) in entries.iter().rev().filter(|(_, kind)| *kind == FileType::Directory) {
        for lower in layers.lowers.iter().filter(|lower| lower.join(path).is_dir()) {
            copy_metadata(&layers.whole.join(path), &lower.join(path))?;
        }
    }
    Ok(())
}

fn directories(whole: &Path, lower: &Path, path: &Path) -> io::Result<()> {
    if lower.join(path).is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        directories(whole, lower, parent)?;
    }
    copy(&whole.join(path), &lower.join(path), FileType::Directory)
}

fn copy(from: &Path, to: &Path, kind: FileType) -> io::Result<()> {
    match kind {
        FileType::Directory => match fs::create_dir(to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(|e| at(to, e))?,
        },
        FileType::RegularFile => {
            fs::copy(from, to).map_err(|e| at(from, e))?;
        }
        FileType::Symlink => {
            symlink(fs::read_link(from)?, to).map_err(|e| at(to, e))?;
            let metadata = from.symlink_metadata()?;
            return lchown(to, Some(metadata.uid()), Some(metadata.gid()));
        }
        // Sockets, fifos and devices are no part of what is measured.
        _ => return Ok(()),
    }
    copy_metadata(from, to)
}

fn copy_metadata(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = from.metadata()?;
    chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, to, &times, AtFlags::empty())?)
}
