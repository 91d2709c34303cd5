//! The lower layers of a case, made on disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat,
};

use super::execute::{Place, execute, open_root};
use super::generate::plain;
use super::op::{Action, At, Case, Layer, Made, Octal, Step, Trailing};
use super::outcome::Known;
use crate::mount::{Driver, Layers, Mount};
use crate::tree::Tree;

/// The lower layers on disk, with all that is known about them.
pub struct Lowers {
    /// Topmost first, as a mount names them.
    pub dirs: Vec<PathBuf>,
    /// What each holds, in the same order.
    trees: Vec<Tree>,
}

impl Lowers {
    /// Makes the layers of `case` below `scratch`.
    ///
    /// # Errors
    /// Those of the host; a step that fails is a step that does nothing.
    pub fn make(case: &Case, scratch: &Path) -> io::Result<Lowers> {
        let mut dirs: Vec<PathBuf> = Vec::new();
        for (number, layer) in case.layers.iter().enumerate() {
            let dir = scratch.join(format!("lower{number}"));
            fs::create_dir(&dir)?;
            match layer.made {
                Made::Bare => bare(layer, &dir, &dirs)?,
                Made::ThroughOverlay => through_overlay(layer, &dir, &dirs, scratch)?,
            }
            dirs.insert(0, dir);
        }
        for dir in &dirs {
            age(dir)?;
        }
        let trees = dirs.iter().map(|dir| Tree::read(dir)).collect::<io::Result<_>>()?;
        Ok(Lowers { dirs, trees })
    }

    /// Whether the kernel can walk these layers. Marks put there by hand may
    /// make layers that no program writes (whiteouts in a directory that is
    /// merged with nothing), which it lists but cannot look up.
    ///
    /// # Errors
    /// Those of mounting.
    pub fn are_sane(&self, merged: &Path) -> io::Result<bool> {
        if self.dirs.len() == 1 {
            // Nothing below it that a mark could be about; and the kernel wants two.
            return Ok(true);
        }
        let lowers: Vec<&Path> = self.dirs.iter().map(PathBuf::as_path).collect();
        let mount = Mount::new(Driver::Kernel, &Layers::read_only(&lowers), merged)?;
        let sane = Tree::read(mount.path()).is_ok();
        mount.unmount()?;
        Ok(sane)
    }

    /// What makes answers comparable.
    pub fn known(&self) -> Known {
        let nodes = || self.trees.iter().flat_map(|tree| tree.nodes.values());
        let files = nodes().filter(|node| node.kind == FileType::RegularFile);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Known {
            lower_inos: nodes().map(|node| node.ino).collect(),
            lower_mtimes: files.map(|node| node.mtime).collect(),
            // The file system's clock may lag a tick behind.
            start: i128::from(now.tv_sec - 1) * 1_000_000_000,
        }
    }

    /// How the layers differ from what they were: they must not.
    ///
    /// # Errors
    /// Those of reading them.
    pub fn damage(&self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        for (dir, tree) in self.dirs.iter().zip(&self.trees) {
            let now = Tree::read(dir)?;
            lines.extend(
                tree.differences(&now, &[]).into_iter().map(|line| format!("{}: {line}", dir.display())),
            );
        }
        Ok(lines)
    }
}

fn bare(layer: &Layer, dir: &Path, below: &[PathBuf]) -> io::Result<()> {
    let mut place = Place::new(open_root(dir)?);
    // A whiteout by attribute is one in a directory that says so only: it must
    // not be moved to another.
    let has_attributes = layer.steps.iter().any(|step| matches!(step, Step::XattrWhiteout(_)));
    for step in &layer.steps {
        match step {
            Step::Do(Action::Rename { .. } | Action::Link { .. }) if has_attributes => {}
            Step::Do(action) => try_action(&mut place, action.clone()),
            Step::Whiteout(path) if is_merged(path, dir, below) => {
                let node = dir.join(path.text());
                ignored(mknodat(CWD, &node, FileType::CharacterDevice, Mode::empty(), 0));
            }
            Step::XattrWhiteout(path) if is_merged(path, dir, below) => {
                let node = dir.join(path.text());
                if !node.exists() && fs::write(&node, "").is_ok() {
                    lsetxattr(&node, "trusted.overlay.whiteout", b"y", XattrFlags::empty())?;
                    let parent = node.parent().unwrap_or(dir);
                    lsetxattr(parent, "trusted.overlay.opaque", b"x", XattrFlags::empty())?;
                }
            }
            Step::OpaqueDir(path) => {
                let node = dir.join(path.text());
                if fs::create_dir(&node).is_ok() {
                    lsetxattr(&node, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
                }
            }
            Step::Whiteout(_) | Step::XattrWhiteout(_) => {}
        }
    }
    Ok(())
}

fn through_overlay(layer: &Layer, dir: &Path, below: &[PathBuf], scratch: &Path) -> io::Result<()> {
    let (work, merged) = (scratch.join("layer-work"), scratch.join("layer-merged"));
    fs::create_dir(&work)?;
    fs::create_dir(&merged)?;
    let lowers: Vec<&Path> = below.iter().map(PathBuf::as_path).collect();
    let mount = Mount::new(Driver::Kernel, &Layers::writable(&lowers, dir, &work), &merged)?;
    let mut place = Place::new(open_root(&merged)?);
    for step in &layer.steps {
        if let Step::Do(action) = step {
            try_action(&mut place, action.clone());
        }
    }
    drop(place);
    mount.unmount()?;
    fs::remove_dir_all(&work)?;
    fs::remove_dir(&merged)
}

/// A step may well fail: what it names need not exist.
fn try_action(place: &mut Place, action: Action) {
    // A bare layer gets no overlay marks by accident: those are steps.
    let marks = match &action {
        Action::Setxattr { name, .. } => name.contains("overlay."),
        Action::Rename { flags, .. } => flags & libc::RENAME_WHITEOUT != 0,
        Action::Mknod { mode: Octal(mode), dev: 0, .. } => mode & libc::S_IFMT == libc::S_IFCHR,
        _ => false,
    };
    if !marks {
        execute(place, &plain(action), &Known::default()).ok();
    }
    place.slots = Default::default();
}

fn ignored(result: rustix::io::Result<()>) {
    // As in `try_action`.
    result.ok();
}

/// Whether the parent of `path` is a directory here and in a layer below, and
/// not opaque: only there does a whiteout make sense.
fn is_merged(path: &At, dir: &Path, below: &[PathBuf]) -> bool {
    let parent =
        At { base: None, names: path.names[..path.names.len() - 1].to_vec(), trailing: Trailing::Name }
            .text();
    let is_dir = |layer: &Path| fs::symlink_metadata(layer.join(&parent)).is_ok_and(|m| m.is_dir());
    let mut mark = [0; 8];
    let opaque = rustix::fs::lgetxattr(dir.join(&parent), "trusted.overlay.opaque", &mut mark) == Ok(1)
        && mark[0] == b'y';
    is_dir(dir) && !opaque && below.iter().any(|layer| is_dir(layer))
}

/// Gives every object a modification time of its own, long ago.
fn age(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = fs::symlink_metadata(entry.path())?;
        if metadata.is_dir() {
            age(&entry.path())?;
        } else {
            set_age(&entry.path(), metadata.ino())?;
        }
    }
    set_age(dir, fs::symlink_metadata(dir)?.ino())
}

fn set_age(path: &Path, ino: u64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: 1_100_000_000 + (ino % 100_000_000) as i64,
        tv_nsec: 123_000_000 + (ino % 1000) as i64,
    };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
