//! Applies a layer to an image's files, as the OCI image specification
//! ("Applying Changesets") and containerd do.
//!
//! - Whiteouts hide what lower layers have and nothing of their own layer,
//!   wherever they stand in it: they are applied first.
//! - A path's directories are resolved through symbolic links of the image,
//!   within its root, as a process inside would; the last component is not.
//!   `lib/x` lands in `usr/lib` if an earlier `lib` points there.
//! - A directory over a directory changes its attributes; everything else
//!   replaces what was there. The last entry of a path wins.
//! - Missing directories are made: root's, 0755.
//! - `./` sets the root's attributes, as docker and podman do.
//!
//! Refused: paths that climb above the root, a file where a directory is
//! needed, links without a target or to a directory, whiteouts of no name.
//! Owners, modes, devices and capabilities are only recorded here.

use std::collections::{BTreeMap, VecDeque};

use super::Limits;
use super::entry::{Contents, Entry, EntryKind};
use crate::error::{Error, Kind, Result};
use crate::tree::{Content, Meta, Node, NodeId, ROOT, Tree};

/// As containerd allows.
const SYMLINKS_FOLLOWED: usize = 255;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What AUFS kept for itself; some old images still bring it.
const AUFS: &[u8] = b".wh..wh.";

/// Applies a layer's entries to the files of the layers below it.
pub fn apply(
    tree: &mut Tree,
    entries: impl IntoIterator<Item = Result<(Entry, Contents)>>,
    limits: &Limits,
) -> Result<()> {
    let mut merge = Merge { tree, limits };
    // Over nothing, whiteouts have nothing to hide: entries need not wait for them.
    let over_nothing = merge.tree.nodes.len() == 1;
    let mut waiting = Vec::new();
    for entry in entries {
        let (entry, contents) = entry?;
        let applied = match Place::of(&entry.path) {
            Err(error) => Err(error),
            Ok(Place::Nowhere) => Ok(()),
            Ok(Place::Whiteout(..) | Place::Opaque(_)) if over_nothing => Ok(()),
            Ok(Place::Whiteout(dir, name)) => merge.hide(&dir, name),
            Ok(Place::Opaque(dir)) => merge.hide_all(&dir),
            Ok(Place::Root | Place::Name(..)) if !over_nothing => {
                waiting.push((entry, contents));
                continue;
            }
            Ok(Place::Root) => merge.put_root(&entry),
            Ok(Place::Name(dir, name)) => merge.put(&dir, name, &entry, contents),
        };
        applied.map_err(|error| named(error, &entry))?;
    }
    for (entry, contents) in waiting {
        let applied = match Place::of(&entry.path) {
            Ok(Place::Root) => merge.put_root(&entry),
            Ok(Place::Name(dir, name)) => merge.put(&dir, name, &entry, contents),
            _ => Ok(()),
        };
        applied.map_err(|error| named(error, &entry))?;
    }
    Ok(())
}

fn named(error: Error, entry: &Entry) -> Error {
    error.context(format_args!("apply {:?}", String::from_utf8_lossy(&entry.path)))
}

/// What an entry's path means: its directory's components, and its name.
enum Place<'a> {
    Root,
    Name(Vec<&'a [u8]>, &'a [u8]),
    Whiteout(Vec<&'a [u8]>, &'a [u8]),
    Opaque(Vec<&'a [u8]>),
    Nowhere,
}

impl<'a> Place<'a> {
    fn of(path: &'a [u8]) -> Result<Place<'a>> {
        let mut dir = clean(path)?;
        let Some(name) = dir.pop() else { return Ok(Place::Root) };
        if dir.iter().any(|name| name.starts_with(AUFS)) {
            return Ok(Place::Nowhere);
        }
        if dir.iter().any(|name| name.starts_with(WHITEOUT)) {
            return Err(invalid("a whiteout is no directory"));
        }
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Place::Name(dir, name)),
            Some(_) if name == OPAQUE => Ok(Place::Opaque(dir)),
            Some(_) if name.starts_with(AUFS) => Ok(Place::Nowhere),
            Some(b"" | b"." | b"..") => Err(invalid("a whiteout of what is no name")),
            Some(hidden) => Ok(Place::Whiteout(dir, hidden)),
        }
    }
}

/// The components of a path, from the root, without `.` and `..`.
fn clean(path: &[u8]) -> Result<Vec<&[u8]>> {
    let mut components = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop().ok_or_else(|| invalid("it climbs above the root"))?;
            }
            _ => components.push(component),
        }
    }
    Ok(components)
}

/// What a walk does where there is no directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// Makes it.
    Make,
    /// Finds nothing.
    Stop,
}

struct Merge<'t> {
    tree: &'t mut Tree,
    limits: &'t Limits,
}

impl Merge<'_> {
    fn put_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Dir {
            return Err(invalid("the root is a directory"));
        }
        self.set_attributes(ROOT, entry);
        Ok(())
    }

    fn put(&mut self, dir: &[&[u8]], name: &[u8], entry: &Entry, contents: Contents) -> Result<()> {
        let Some(dir) = self.walk(dir, Missing::Make)? else { return Ok(()) };
        let content = match (&entry.kind, contents) {
            (EntryKind::HardLink(target), _) => {
                let file = self.link_target(target)?;
                return self.name(dir, name, file);
            }
            (EntryKind::Dir, _) => {
                if let Some(there) = self.child(dir, name).filter(|&there| self.is_dir(there)) {
                    self.set_attributes(there, entry);
                    return Ok(());
                }
                Content::Dir(BTreeMap::new())
            }
            (EntryKind::File, Contents::Object { id, size }) => Content::Object { id, size },
            (EntryKind::File, Contents::Inline(bytes)) => Content::Inline(bytes),
            (EntryKind::File, Contents::None) => Content::Inline(Box::default()),
            (EntryKind::Symlink(target), _) => Content::Symlink(target.as_slice().into()),
            (EntryKind::Char(device), _) => Content::Char(*device),
            (EntryKind::Block(device), _) => Content::Block(*device),
            (EntryKind::Fifo, _) => Content::Fifo,
        };
        let node = self.add(Node { meta: entry.meta, xattrs: entry.xattrs.clone(), content })?;
        self.name(dir, name, node)
    }

    fn hide(&mut self, dir: &[&[u8]], name: &[u8]) -> Result<()> {
        let dir = self.walk(dir, Missing::Stop)?;
        if let Some(entries) = dir.and_then(|dir| self.entries(dir)) {
            entries.remove(name);
        }
        Ok(())
    }

    fn hide_all(&mut self, dir: &[&[u8]]) -> Result<()> {
        let dir = self.walk(dir, Missing::Stop)?;
        if let Some(entries) = dir.and_then(|dir| self.entries(dir)) {
            entries.clear();
        }
        Ok(())
    }

    fn link_target(&mut self, target: &[u8]) -> Result<NodeId> {
        let mut dir = clean(target)?;
        let name = dir.pop().ok_or_else(|| invalid("a hard link to the root"))?;
        let dir = self.walk(&dir, Missing::Stop)?;
        let file = dir.and_then(|dir| self.child(dir, name));
        match file {
            None => {
                let target = String::from_utf8_lossy(target);
                Err(invalid(format!("a hard link to {target:?}, which does not exist")))
            }
            Some(file) if self.is_dir(file) => Err(invalid("a hard link to a directory")),
            Some(file) => Ok(file),
        }
    }

    /// The directory that these components lead to, symbolic links included.
    fn walk(&mut self, path: &[&[u8]], missing: Missing) -> Result<Option<NodeId>> {
        // The directories from the root to where the walk stands.
        let mut above = Vec::new();
        let mut here = ROOT;
        let mut ahead: VecDeque<Box<[u8]>> = VecDeque::new();
        let mut path = path.iter();
        let mut followed = 0;
        loop {
            let link;
            let name: &[u8] = match ahead.pop_front() {
                Some(name) => {
                    link = name;
                    &link
                }
                None => match path.next() {
                    Some(name) => name,
                    None => return Ok(Some(here)),
                },
            };
            if name == b".." {
                here = above.pop().unwrap_or(ROOT);
                continue;
            }
            let child = self.child(here, name);
            match child.and_then(|child| self.tree.get(child)).map(|node| &node.content) {
                Some(Content::Symlink(target)) => {
                    followed += 1;
                    if followed > SYMLINKS_FOLLOWED {
                        return Err(invalid("too many symbolic links on its way"));
                    }
                    if target.starts_with(b"/") {
                        above.clear();
                        here = ROOT;
                    }
                    let names = target.split(|&byte| byte == b'/');
                    for name in names.rev().filter(|name| !matches!(*name, b"" | b".")) {
                        ahead.push_front(name.into());
                    }
                    Limits::check("path", self.limits.path as u64, ahead.len() as u64)?;
                    continue;
                }
                Some(Content::Dir(_)) | None => {}
                Some(_) if missing == Missing::Stop => return Ok(None),
                Some(_) => {
                    let name = String::from_utf8_lossy(name);
                    return Err(invalid(format!("{name:?} on its way is no directory")));
                }
            }
            let next = match (child, missing) {
                (Some(child), _) => child,
                (None, Missing::Stop) => return Ok(None),
                (None, Missing::Make) => self.make_dir(here, name)?,
            };
            above.push(std::mem::replace(&mut here, next));
            Limits::check("depth", self.limits.depth as u64, above.len() as u64)?;
        }
    }

    fn make_dir(&mut self, parent: NodeId, name: &[u8]) -> Result<NodeId> {
        Limits::check("name", self.limits.name as u64, name.len() as u64)?;
        let meta = Meta { mode: 0o755, ..Meta::default() };
        let dir = self.add(Node { meta, xattrs: BTreeMap::new(), content: Content::Dir(BTreeMap::new()) })?;
        self.name(parent, name, dir)?;
        Ok(dir)
    }

    fn set_attributes(&mut self, id: NodeId, entry: &Entry) {
        if let Some(node) = self.tree.nodes.get_mut(id as usize) {
            node.meta = entry.meta;
            node.xattrs = entry.xattrs.clone();
        }
    }

    fn add(&mut self, node: Node) -> Result<NodeId> {
        let id = NodeId::try_from(self.tree.nodes.len());
        let id = id.map_err(|_| Error::new(Kind::Limit, "an image of too many files"))?;
        self.tree.nodes.push(node);
        Ok(id)
    }

    fn name(&mut self, dir: NodeId, name: &[u8], node: NodeId) -> Result<()> {
        let entries = self.entries(dir).ok_or_else(|| invalid("its parent is no directory"))?;
        entries.insert(name.into(), node);
        Ok(())
    }

    fn entries(&mut self, dir: NodeId) -> Option<&mut BTreeMap<Box<[u8]>, NodeId>> {
        match self.tree.nodes.get_mut(dir as usize).map(|node| &mut node.content) {
            Some(Content::Dir(entries)) => Some(entries),
            _ => None,
        }
    }

    fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        match self.tree.get(dir).map(|node| &node.content) {
            Some(Content::Dir(entries)) => entries.get(name).copied(),
            _ => None,
        }
    }

    fn is_dir(&self, id: NodeId) -> bool {
        matches!(self.tree.get(id), Some(Node { content: Content::Dir(_), .. }))
    }
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, reason)
}
