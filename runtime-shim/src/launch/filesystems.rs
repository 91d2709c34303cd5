//! New file systems, by fsopen(2): detached until they are put somewhere.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::options::Depth;

/// Why there is no such file system.
#[derive(Debug)]
pub struct Refused {
    /// The kernel's number.
    pub errno: Errno,
    /// What it says about it, or which option it was.
    said: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.said.is_empty() {
            true => write!(f, "{}", self.errno),
            false => write!(f, "{} ({})", self.errno, self.said),
        }
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        Refused { errno, said: String::new() }
    }
}

/// A new one, of options `key=value` or `key`, with mount attributes.
pub fn make(kind: &str, source: &str, data: &[impl AsRef<str>], attributes: u64) -> Result<OwnedFd, Refused> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let told = |errno, option: &str| Refused { errno, said: words(&context, option) };
    fsconfig_set_string(&context, "source", source).map_err(|errno| told(errno, "source"))?;
    for option in data {
        let option = option.as_ref();
        let set = match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, option),
        };
        set.map_err(|errno| told(errno, option))?;
    }
    fsconfig_create(&context).map_err(|errno| told(errno, ""))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The kernel's own words about a failed step: lines that begin with a letter
/// for how grave they are.
fn words(context: &OwnedFd, option: &str) -> String {
    let Ok(context) = context.try_clone() else { return option.to_owned() };
    let mut line = [0; 512];
    let length = std::fs::File::from(context).read(&mut line).unwrap_or(0);
    let line = String::from_utf8_lossy(line.get(..length).unwrap_or_default()).into_owned();
    match line.trim().split_once(' ') {
        Some((_grave, words)) => words.to_owned(),
        None => option.to_owned(),
    }
}

/// A detached clone of the mount that an open file lies on, with it as root.
pub fn clone_of(target: BorrowedFd<'_>, depth: Depth) -> rustix::io::Result<OwnedFd> {
    let below = if depth == Depth::All { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(target, c"", flags | below)
}

/// Puts a detached mount on an open file or directory.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), c"", target.as_fd(), c"", by_descriptor)
}
