//! A copy of an image that somebody changed, told as a union's upper would be:
//! name by name what is different.
//!
//! The whole copy is walked. A file whose times and mode are the image's and
//! that was not touched since the copy was made is the image's: its time of
//! change says so, which nobody sets. Whatever else is compared, contents by
//! their digest. Files with several names are told at the end, when all of them
//! are known.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};

use super::walk::{Contents, Found, MOUNT_POINTS, Step, too_deep};
use super::{Copy, Ids, Upper};
use crate::error::{Context, Result};
use crate::object::ObjectId;
use crate::tree::{Content, Node, NodeId, ROOT, Tree, joined};

/// Tells `visit` of every difference, directories before what is in them.
pub(super) fn walk(
    upper: &Upper,
    copy: &Copy,
    tree: &Tree,
    visit: impl FnMut(Step<'_>) -> Result<()>,
) -> Result<()> {
    let top = openat(CWD, &upper.path, DIRECTORY, Mode::empty())
        .context(|| format!("open {}", upper.path.display()))?;
    let mut walk = Walk { upper, copy, tree, visit, linked: BTreeMap::new(), parents: HashSet::new() };
    let stat = walk.stat(top.as_fd(), b"", Some(ROOT))?;
    let level = Level {
        above: None,
        path: b"",
        is: Found { dir: top.as_fd(), name: b"", stat: &stat },
        was: Some(ROOT),
        is_told: Cell::new(false),
    };
    walk.tell(&level)?;
    walk.dir(top.as_fd(), &level, 0)?;
    walk.linked(top.as_fd())
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Walk<'a, V> {
    upper: &'a Upper,
    copy: &'a Copy,
    tree: &'a Tree,
    visit: V,
    /// Names of files with several, by device and number.
    linked: BTreeMap<(u64, u64), Vec<Name>>,
    /// Directories that were told.
    parents: HashSet<Vec<u8>>,
}

/// A path, and what the image has there.
type Name = (Vec<u8>, Option<NodeId>);

/// A directory that is gone through; told once something in it is.
struct Level<'a> {
    above: Option<&'a Level<'a>>,
    path: &'a [u8],
    is: Found<'a>,
    was: Option<NodeId>,
    is_told: Cell<bool>,
}

impl<V: FnMut(Step<'_>) -> Result<()>> Walk<'_, V> {
    fn tell(&mut self, level: &Level<'_>) -> Result<()> {
        if level.is_told.replace(true) {
            return Ok(());
        }
        if let Some(above) = level.above {
            self.tell(above)?;
        }
        self.parents.insert(level.path.to_vec());
        (self.visit)(Step::Dir { path: level.path, is: level.is, was: level.was, hides: false })
    }

    fn dir(&mut self, dir: BorrowedFd<'_>, level: &Level<'_>, depth: usize) -> Result<()> {
        if depth > super::walk::DEEPEST {
            return Err(too_deep());
        }
        let names = names(dir, level.path)?;
        let tree = self.tree;
        let below = level.was.filter(|was| tree.is_dir(*was));
        for (name, node) in below.into_iter().flat_map(|below| tree.entries(below)) {
            let is_gone = names.binary_search_by(|known| known.as_slice().cmp(name)).is_err();
            if is_gone && self.copy.has(tree.get(node)) {
                self.tell(level)?;
                (self.visit)(Step::Gone { path: &joined(level.path, name) })?;
            }
        }
        for name in &names {
            let path = joined(level.path, name);
            let was = below.and_then(|below| tree.child(below, name));
            let stat = self.stat(dir, name, was)?;
            if was.is_none() && is_mount_point(dir, name, &stat, &path)? {
                continue;
            }
            let is = Found { dir, name, stat: &stat };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let next = Level { above: Some(level), path: &path, is, was, is_told: Cell::new(false) };
                if self.is_other_directory(is, was)? {
                    self.tell(&next)?;
                }
                let child: OwnedFd = openat(dir, name.as_slice(), DIRECTORY, Mode::empty())
                    .context(|| format!("open /{}", String::from_utf8_lossy(&path)))?;
                self.dir(child.as_fd(), &next, depth + 1)?;
            } else if stat.st_nlink > 1 {
                self.linked.entry((stat.st_dev, stat.st_ino)).or_default().push((path, was));
            } else if self.is_other(is, was)? {
                self.tell(level)?;
                (self.visit)(Step::File { path: &path, is, was, data: Contents::Upper })?;
            }
        }
        Ok(())
    }

    /// Files with several names: all of them, if any is not as in the image.
    fn linked(&mut self, top: BorrowedFd<'_>) -> Result<()> {
        for (_, names) in std::mem::take(&mut self.linked) {
            let Some(((path, was), others)) = names.split_first() else { continue };
            let (dir, name) = self.lead(top, path)?;
            let stat = self.stat(dir.as_fd(), name, *was)?;
            let is = Found { dir: dir.as_fd(), name, stat: &stat };
            if others.iter().all(|(_, other)| other == was) && !self.is_other(is, *was)? {
                continue;
            }
            self.tell_parents(top, path)?;
            (self.visit)(Step::File { path, is, was: *was, data: Contents::Upper })?;
            for (other, was) in others {
                self.tell_parents(top, other)?;
                (self.visit)(Step::Link { path: other, to: path, was: *was })?;
            }
        }
        Ok(())
    }

    /// Tells of the directories of a path that were not told of yet.
    fn tell_parents(&mut self, top: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = path.get(..at).unwrap_or_default();
            if self.parents.contains(parent) {
                continue;
            }
            let was =
                parent.split(|byte| *byte == b'/').try_fold(ROOT, |dir, name| self.tree.child(dir, name));
            let (dir, name) = self.lead(top, parent)?;
            let stat = self.stat(dir.as_fd(), name, was)?;
            let is = Found { dir: dir.as_fd(), name, stat: &stat };
            self.parents.insert(parent.to_vec());
            (self.visit)(Step::Dir { path: parent, is, was, hides: false })?;
        }
        Ok(())
    }

    /// The directory that a path leads to, and the name there.
    fn lead<'p>(&self, top: BorrowedFd<'_>, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8])> {
        let context = || format!("open /{}", String::from_utf8_lossy(path));
        let mut names = path.split(|byte| *byte == b'/');
        let name = names.next_back().unwrap_or_default();
        let mut dir = openat(top, c".", DIRECTORY, Mode::empty()).context(context)?;
        for name in names {
            dir = openat(&dir, name, DIRECTORY, Mode::empty()).context(context)?;
        }
        Ok((dir, name))
    }

    /// What stat says, with the image's ids.
    fn stat(&self, dir: BorrowedFd<'_>, name: &[u8], was: Option<NodeId>) -> Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let mut stat =
            statat(dir, name, flags).context(|| format!("look at {}", String::from_utf8_lossy(name)))?;
        (stat.st_uid, stat.st_gid) = match &self.copy.ids {
            Ids::Mapped { users, groups } => (inside(users, stat.st_uid), inside(groups, stat.st_gid)),
            Ids::One => {
                was.and_then(|was| self.tree.get(was)).map_or((0, 0), |node| (node.meta.uid, node.meta.gid))
            }
        };
        Ok(stat)
    }

    fn is_touched(&self, stat: &Stat) -> bool {
        (stat.st_ctime, stat.st_ctime_nsec as i64) >= self.copy.made
    }

    /// Whether a directory is different in itself.
    fn is_other_directory(&self, is: Found<'_>, was: Option<NodeId>) -> Result<bool> {
        let Some(was) = was.filter(|was| self.tree.is_dir(*was)).and_then(|was| self.tree.get(was)) else {
            return Ok(true);
        };
        let (now, before) = (is.meta(), was.meta);
        Ok(self.is_touched(is.stat)
            && ((now.mode, now.uid, now.gid) != (before.mode, before.uid, before.gid)
                || is.xattrs(self.upper)? != was.xattrs))
    }

    /// Whether anything but a directory is.
    fn is_other(&self, is: Found<'_>, was: Option<NodeId>) -> Result<bool> {
        let Some(was) = was.and_then(|was| self.tree.get(was)) else { return Ok(true) };
        let (now, before) = (is.meta(), was.meta);
        let looks_alike = (now.mode, now.mtime, now.mtime_nsec)
            == (before.mode, before.mtime, before.mtime_nsec)
            && kind_of(was) == Some(FileType::from_raw_mode(is.stat.st_mode))
            && len_of(was).is_none_or(|len| len == is.stat.st_size as u64);
        if !looks_alike || !self.is_touched(is.stat) {
            return Ok(!looks_alike);
        }
        Ok(now != before || is.xattrs(self.upper)? != was.xattrs || !has_same_contents(is, was)?)
    }
}

impl Copy {
    /// Whether the copy was made with this file.
    fn has(&self, node: Option<&Node>) -> bool {
        match node.map(|node| &node.content) {
            Some(Content::Char(_) | Content::Block(_)) => self.has_devices,
            // An archive has none.
            Some(Content::Socket) => false,
            _ => true,
        }
    }
}

fn inside(map: &[(u32, u32, u32)], id: u32) -> u32 {
    let shifted = |&(inside, outside, count): &(u32, u32, u32)| {
        id.checked_sub(outside).filter(|offset| *offset < count).map(|offset| inside + offset)
    };
    if map.is_empty() { id } else { map.iter().find_map(shifted).unwrap_or(NOBODY) }
}

/// What an id without a mapping looks like (/proc/sys/kernel/overflowuid).
const NOBODY: u32 = 65534;

/// The names in a directory, sorted.
fn names(dir: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let context = || format!("list /{}", String::from_utf8_lossy(path));
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).context(context)? {
        let entry = entry.context(context)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether something new is there to be mounted on, and for nothing else.
fn is_mount_point(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat, path: &[u8]) -> Result<bool> {
    if !MOUNT_POINTS.contains(&path) {
        return Ok(false);
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat.st_size == 0),
        FileType::Directory => {
            let context = || format!("open /{}", String::from_utf8_lossy(path));
            let child = openat(dir, name, DIRECTORY, Mode::empty()).context(context)?;
            for name in names(child.as_fd(), path)? {
                let stat = statat(&child, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).context(context)?;
                if !is_mount_point(child.as_fd(), &name, &stat, &joined(path, &name))? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn kind_of(node: &Node) -> Option<FileType> {
    Some(match &node.content {
        Content::Dir(_) => FileType::Directory,
        Content::Inline(_) | Content::Object { .. } => FileType::RegularFile,
        Content::Symlink(_) => FileType::Symlink,
        Content::Char(_) => FileType::CharacterDevice,
        Content::Block(_) => FileType::BlockDevice,
        Content::Fifo => FileType::Fifo,
        Content::Socket => return None,
    })
}

fn len_of(node: &Node) -> Option<u64> {
    match &node.content {
        Content::Inline(bytes) => Some(bytes.len() as u64),
        Content::Object { size, .. } => Some(*size),
        _ => None,
    }
}

/// Of two files of one kind and length.
fn has_same_contents(is: Found<'_>, was: &Node) -> Result<bool> {
    Ok(match &was.content {
        Content::Inline(bytes) => digest(is)? == ObjectId::of(bytes),
        Content::Object { id, .. } => digest(is)? == *id,
        Content::Symlink(target) => {
            let found = rustix::fs::readlinkat(is.dir, is.name, Vec::new());
            found.context(|| "read a symbolic link")?.as_bytes() == &target[..]
        }
        Content::Char(device) | Content::Block(device) => is.device() == *device,
        Content::Dir(_) | Content::Fifo | Content::Socket => true,
    })
}

fn digest(is: Found<'_>) -> Result<ObjectId> {
    let context = || format!("read {}", String::from_utf8_lossy(is.name));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(is.dir, is.name, flags, Mode::empty()).context(context)?;
    unionfs::verity::digest_of(file).map(ObjectId).context(context)
}
