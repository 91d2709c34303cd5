//! Name by name what an upper makes of an image's tree.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Stat, statat};
use unionfs::changes::Redirect;
use unionfs::changes::upper::{self, Below, Birth, Data, EntryKind};

use super::{Form, Upper, copy};
use crate::error::{Context, Error, Kind, Result};
use crate::tree::{Device, Meta, NodeId, ROOT, Tree, Xattrs, joined};

/// Directories in directories so far are walked.
pub(super) const DEEPEST: usize = 4096;

/// What runners of containers make to mount something on, where an image does
/// not have it: no difference, as long as nothing else comes of it. These are
/// what docker keeps in a layer of its own below a container's.
pub(super) const MOUNT_POINTS: [&[u8]; 12] = [
    b"dev",
    b"dev/console",
    b"dev/mqueue",
    b"dev/pts",
    b"dev/shm",
    b"etc",
    b"etc/hostname",
    b"etc/hosts",
    b"etc/resolv.conf",
    b"proc",
    b"sys",
    b"sys/fs/cgroup",
];

/// One difference. Paths are from the root, without a slash at either end.
pub(super) enum Step<'a> {
    /// The image's file of this name is gone.
    Gone { path: &'a [u8] },
    /// A directory; what the image has below its name does not show through it
    /// where `hides`.
    Dir { path: &'a [u8], is: Found<'a>, was: Option<NodeId>, hides: bool },
    /// Anything else.
    File { path: &'a [u8], is: Found<'a>, was: Option<NodeId>, data: Contents },
    /// Another name of a file that was told of.
    Link { path: &'a [u8], to: &'a [u8], was: Option<NodeId> },
    /// A part of the image under another name than it has there: all of it.
    Moved { path: &'a [u8], from: NodeId },
}

/// A file of the upper.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    /// Its directory.
    pub dir: BorrowedFd<'a>,
    /// Its name there; empty for the directory itself.
    pub name: &'a [u8],
    /// As the upper's file system has it.
    pub stat: &'a Stat,
}

/// Where a file's contents are.
#[derive(Clone, Copy)]
pub(super) enum Contents {
    /// With the file in the upper.
    Upper,
    /// With a file of the image.
    Image(NodeId),
}

impl Found<'_> {
    /// What a tree says of such a file.
    pub fn meta(&self) -> Meta {
        Meta {
            mode: (self.stat.st_mode & 0o7777) as u16,
            uid: self.stat.st_uid,
            gid: self.stat.st_gid,
            mtime: self.stat.st_mtime,
            mtime_nsec: self.stat.st_mtime_nsec as u32,
        }
    }

    /// A device's number.
    pub fn device(&self) -> Device {
        let rdev = self.stat.st_rdev;
        Device { major: rustix::fs::major(rdev), minor: rustix::fs::minor(rdev) }
    }

    /// Its attributes without the union's marks.
    pub fn xattrs(&self, upper: &Upper) -> Result<Xattrs> {
        let found = upper::attributes(self.dir, self.name, upper.marks()).map_err(told)?;
        Ok(found.into_iter().map(|(name, value)| (name.into_bytes().into(), value.into())).collect())
    }
}

/// An error of the other crate as one of ours.
pub(super) fn told(error: unionfs::Error) -> Error {
    Error::from(error.errno()).context(error.cause().unwrap_or("read an upper"))
}

/// Tells `visit` of every difference, directories before what is in them.
pub(super) fn walk(upper: &Upper, tree: &Tree, visit: impl FnMut(Step<'_>) -> Result<()>) -> Result<()> {
    if let Form::Copy(how) = &upper.form {
        return copy::walk(upper, how, tree, visit);
    }
    let top = upper::open(&upper.path).map_err(told)?;
    let mut walk =
        Walk { upper, tree, visit, linked: linked(tree), links: HashMap::new(), aliases: Vec::new() };
    let stat = rustix::fs::fstat(&top).context(|| format!("read {}", upper.path.display()))?;
    let is = Found { dir: top.as_fd(), name: b"", stat: &stat };
    (walk.visit)(Step::Dir { path: b"", is, was: Some(ROOT), hides: false })?;
    walk.dir(top.as_fd(), &[], Some(ROOT), Shown::There, 0)?;
    walk.other_names()
}

/// How what shows through a directory of the upper is known already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// The image has it at this very path.
    There,
    /// It was moved here: it has to be told.
    Moved,
}

struct Walk<'a, V> {
    upper: &'a Upper,
    tree: &'a Tree,
    visit: V,
    /// The image's files with several names.
    linked: HashSet<NodeId>,
    /// First paths of files with several names, by device and number.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Copied-up files of which the image has more names.
    aliases: Vec<Alias>,
}

struct Alias {
    node: NodeId,
    key: (u64, u64),
    /// More links than names were met: the index has one.
    links: u64,
}

impl<V: FnMut(Step<'_>) -> Result<()>> Walk<'_, V> {
    fn dir(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        below: Option<NodeId>,
        shown: Shown,
        depth: usize,
    ) -> Result<()> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        let entries = upper::read(dir, self.upper.marks()).map_err(told)?;
        let tree = self.tree;
        if let (Shown::Moved, Some(below)) = (shown, below) {
            let named: HashSet<&[u8]> = entries.iter().map(|entry| entry.name.as_name().bytes()).collect();
            for (name, node) in tree.entries(below).filter(|(name, _)| !named.contains(name)) {
                (self.visit)(Step::Moved { path: &joined(path, name), from: node })?;
            }
        }
        for entry in &entries {
            let name = entry.name.as_name().bytes();
            let path = joined(path, name);
            let through = below.and_then(|below| tree.child(below, name));
            // What the image has under the very path.
            let was = through.filter(|_| shown == Shown::There);
            if was.is_none() && is_mount_point(dir, entry, &path, self.upper.marks())? {
                continue;
            }
            match &entry.kind {
                EntryKind::Whiteout => {
                    if was.is_some() {
                        (self.visit)(Step::Gone { path: &path })?;
                    }
                }
                EntryKind::Directory(_, seen) => {
                    let stat = stat_of(dir, name)?;
                    let (next, next_shown) = match seen {
                        Below::SameName => (through, shown),
                        Below::Nothing => (None, shown),
                        Below::Redirected(redirect) => (self.follow(redirect, below)?, Shown::Moved),
                    };
                    let next = next.filter(|next| tree.is_dir(*next));
                    let hides = was.is_some_and(|was| tree.is_dir(was))
                        && !(next == was && next_shown == Shown::There);
                    let is = Found { dir, name, stat: &stat };
                    (self.visit)(Step::Dir { path: &path, is, was, hides })?;
                    let child: OwnedFd = upper::open_child(dir, entry.name.as_name())
                        .context(|| format!("open {}", String::from_utf8_lossy(&path)))?;
                    self.dir(child.as_fd(), &path, next, next_shown, depth + 1)?;
                }
                EntryKind::File(_, data, birth) => {
                    let stat = stat_of(dir, name)?;
                    let data = match data {
                        Data::Own => Contents::Upper,
                        Data::Lower(redirect) => {
                            let from = match redirect {
                                Some(redirect) => self.follow(redirect, below)?,
                                None => through,
                            };
                            Contents::Image(from.ok_or_else(|| lost(&path))?)
                        }
                    };
                    self.file(&path, Found { dir, name, stat: &stat }, was, data, birth)?;
                }
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &[u8],
        is: Found<'_>,
        was: Option<NodeId>,
        data: Contents,
        birth: &Birth,
    ) -> Result<()> {
        let key = (is.stat.st_dev, is.stat.st_ino);
        if is.stat.st_nlink > 1 {
            if let Some(alias) = self.aliases.iter_mut().find(|alias| alias.key == key) {
                alias.links = alias.links.saturating_sub(1);
            }
            if let Some(first) = self.links.get(&key) {
                return (self.visit)(Step::Link { path, to: first, was });
            }
            self.links.insert(key, path.to_vec());
            let copied = was.filter(|was| *birth != Birth::Made && self.linked.contains(was));
            if let Some(node) = copied {
                self.aliases.push(Alias { node, key, links: is.stat.st_nlink - 1 });
            }
        }
        (self.visit)(Step::File { path, is, was, data })
    }

    /// The names that a copied-up file has in the image alone: with an index they
    /// are names of the copy.
    fn other_names(&mut self) -> Result<()> {
        let aliases: HashMap<NodeId, (u64, u64)> = self
            .aliases
            .iter()
            .filter(|alias| alias.links > 0)
            .map(|alias| (alias.node, alias.key))
            .collect();
        if aliases.is_empty() {
            return Ok(());
        }
        for (path, node) in self.tree.paths() {
            let Some(first) = aliases.get(&node).and_then(|key| self.links.get(key)) else { continue };
            if *first != path && self.shows_through(&path)? {
                (self.visit)(Step::Link { path: &path, to: first, was: Some(node) })?;
            }
        }
        Ok(())
    }

    /// Whether the upper leaves what the image has at a path.
    fn shows_through(&self, path: &[u8]) -> Result<bool> {
        let mut dir = upper::open(&self.upper.path).map_err(told)?;
        for name in path.split(|byte| *byte == b'/') {
            let entries = upper::read(dir.as_fd(), self.upper.marks()).map_err(told)?;
            let Some(entry) = entries.iter().find(|entry| entry.name.as_name().bytes() == name) else {
                return Ok(true);
            };
            match &entry.kind {
                EntryKind::Directory(_, Below::SameName) => {
                    dir = upper::open_child(dir.as_fd(), entry.name.as_name())
                        .context(|| "open a directory of an upper")?;
                }
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Where a redirect leads in the image.
    fn follow(&self, redirect: &Redirect, parent: Option<NodeId>) -> Result<Option<NodeId>> {
        let step = |dir: NodeId, name: &[u8]| self.tree.child(dir, name);
        Ok(match redirect {
            Redirect::Sibling(name) => parent.and_then(|parent| step(parent, name.as_name().bytes())),
            Redirect::Absolute(names) => {
                names.iter().try_fold(ROOT, |dir, name| step(dir, name.as_name().bytes()))
            }
        })
    }
}

/// Whether a new file is there to be mounted on, and for nothing else.
fn is_mount_point(
    dir: BorrowedFd<'_>,
    entry: &upper::Entry,
    path: &[u8],
    namespace: unionfs::config::Namespace,
) -> Result<bool> {
    if !MOUNT_POINTS.contains(&path) {
        return Ok(false);
    }
    let name = entry.name.as_name();
    match &entry.kind {
        EntryKind::File(_, Data::Own, _) => {
            let stat = stat_of(dir, name.bytes())?;
            Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0)
        }
        EntryKind::Directory(_, Below::SameName | Below::Nothing) => {
            let child = upper::open_child(dir, name).context(|| "open a directory of an upper")?;
            for entry in upper::read(child.as_fd(), namespace).map_err(told)? {
                let path = joined(path, entry.name.as_name().bytes());
                if !is_mount_point(child.as_fd(), &entry, &path, namespace)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn linked(tree: &Tree) -> HashSet<NodeId> {
    let mut seen = HashSet::new();
    let entries = (0..tree.nodes.len() as NodeId).flat_map(|node| tree.entries(node));
    entries.map(|(_, node)| node).filter(|node| !seen.insert(*node)).collect()
}

fn stat_of(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat> {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .context(|| format!("read {} in an upper", String::from_utf8_lossy(name)))
}

pub(super) fn too_deep() -> Error {
    Error::new(Kind::Limit, format!("more than {DEEPEST} directories lie in each other"))
}

fn lost(path: &[u8]) -> Error {
    let path = String::from_utf8_lossy(path);
    Error::new(Kind::Corrupt, format!("the image has no contents for /{path}"))
}
