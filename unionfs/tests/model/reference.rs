//! The reference: a file tree in memory that does what POSIX says. It knows no
//! layers; [`crate::layers`] says what a union of them looks like at first.
//!
//! Operations that the kernel's VFS refuses before any file system is asked are
//! [`Refused::ByVfs`]: the engine relies on never seeing them.

use std::collections::BTreeMap;

/// An inode of the reference; never reused.
pub type Id = usize;

pub const ROOT: Id = 0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Dir(BTreeMap<String, Id>),
    File(Vec<u8>),
    Symlink(String),
    Fifo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub content: Content,
    /// Permissions, set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of files that are not directories.
    pub nlink: u32,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// Why nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    ByVfs,
    /// By the file system, with this errno.
    With(rustix::io::Errno),
}

/// A name in a directory, whether or not something has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The directory's path: the names from the root.
    pub dir: Vec<String>,
    pub name: String,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    Allowed,
    Refused,
    Exchange,
}

type Done = Result<(), Refused>;

#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    pub fn new(root: Node) -> Tree {
        Tree { nodes: vec![root] }
    }

    /// Adds a node that no directory names yet.
    pub fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id]
    }

    pub fn children(&self, dir: Id) -> &BTreeMap<String, Id> {
        match &self.nodes[dir].content {
            Content::Dir(children) => children,
            other => panic!("not a directory: {other:?}"),
        }
    }

    pub fn children_mut(&mut self, dir: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.nodes[dir].content {
            Content::Dir(children) => children,
            other => panic!("not a directory: {other:?}"),
        }
    }

    pub fn is_dir(&self, id: Id) -> bool {
        matches!(self.nodes[id].content, Content::Dir(_))
    }

    /// All directories, the root first, as paths.
    pub fn dirs(&self) -> Vec<Vec<String>> {
        let mut dirs = vec![vec![]];
        let is_dir = |slot: &Slot| self.is_dir(self.at(slot).unwrap());
        dirs.extend(
            self.entries().into_iter().filter(is_dir).map(|slot| [slot.dir, vec![slot.name]].concat()),
        );
        dirs
    }

    /// Everything but the root, in a fixed order.
    pub fn entries(&self) -> Vec<Slot> {
        let mut found = Vec::new();
        let mut left = vec![(vec![], ROOT)];
        while let Some((path, dir)) = left.pop() {
            for (name, &id) in self.children(dir) {
                found.push(Slot { dir: path.clone(), name: name.clone() });
                if self.is_dir(id) {
                    left.push(([path.clone(), vec![name.clone()]].concat(), id));
                }
            }
        }
        found
    }

    pub fn at(&self, slot: &Slot) -> Option<Id> {
        self.children(self.dir(&slot.dir)).get(&slot.name).copied()
    }

    fn dir(&self, path: &[String]) -> Id {
        path.iter().fold(ROOT, |dir, name| self.children(dir)[name])
    }

    /// Makes a file of any kind. A set-group-id directory passes on its group,
    /// and to directories the bit itself.
    pub fn make(&mut self, slot: &Slot, content: Content, mode: u32, by: Ids) -> Done {
        if self.at(slot).is_some() {
            return Err(Refused::ByVfs);
        }
        let dir = self.dir(&slot.dir);
        let parent = &self.nodes[dir];
        let is_dir = matches!(content, Content::Dir(_));
        let passes_group = parent.mode & 0o2000 != 0;
        let gid = if passes_group { parent.gid } else { by.gid };
        let mode = if passes_group && is_dir { mode | 0o2000 } else { mode };
        let id = self.add(Node { content, mode, uid: by.uid, gid, nlink: 1, xattrs: BTreeMap::new() });
        self.children_mut(dir).insert(slot.name.clone(), id);
        Ok(())
    }

    pub fn unlink(&mut self, slot: &Slot) -> Done {
        let id = self.at(slot).ok_or(Refused::ByVfs)?;
        if self.is_dir(id) {
            return Err(Refused::ByVfs);
        }
        self.drop_link(slot, id);
        Ok(())
    }

    pub fn rmdir(&mut self, slot: &Slot) -> Done {
        let id = self.at(slot).ok_or(Refused::ByVfs)?;
        if !self.is_dir(id) {
            return Err(Refused::ByVfs);
        }
        if !self.children(id).is_empty() {
            return Err(Refused::With(rustix::io::Errno::NOTEMPTY));
        }
        self.drop_link(slot, id);
        Ok(())
    }

    fn drop_link(&mut self, slot: &Slot, id: Id) {
        let dir = self.dir(&slot.dir);
        self.children_mut(dir).remove(&slot.name);
        self.nodes[id].nlink -= 1;
    }

    pub fn link(&mut self, file: &Slot, new: &Slot) -> Done {
        let id = self.at(file).ok_or(Refused::ByVfs)?;
        if self.is_dir(id) || self.at(new).is_some() {
            return Err(Refused::ByVfs);
        }
        let dir = self.dir(&new.dir);
        self.children_mut(dir).insert(new.name.clone(), id);
        self.nodes[id].nlink += 1;
        Ok(())
    }

    pub fn rename(&mut self, from: &Slot, to: &Slot, replace: Replace) -> Done {
        let source = self.at(from).ok_or(Refused::ByVfs)?;
        let target = self.at(to);
        let path = |slot: &Slot| [slot.dir.clone(), vec![slot.name.clone()]].concat();
        // Into itself, or over an ancestor.
        if to.dir.starts_with(&path(from)) || from.dir.starts_with(&path(to)) || target == Some(source) {
            return Err(Refused::ByVfs);
        }
        match (replace, target) {
            (Replace::Refused, Some(_)) | (Replace::Exchange, None) => return Err(Refused::ByVfs),
            (Replace::Allowed, Some(target)) if self.is_dir(source) != self.is_dir(target) => {
                return Err(Refused::ByVfs);
            }
            (Replace::Allowed, Some(target)) if self.is_dir(target) && !self.children(target).is_empty() => {
                return Err(Refused::With(rustix::io::Errno::NOTEMPTY));
            }
            (Replace::Allowed, Some(target)) => self.drop_link(to, target),
            (Replace::Exchange, Some(_)) | (_, None) => {}
        }
        let (from_dir, to_dir) = (self.dir(&from.dir), self.dir(&to.dir));
        self.children_mut(from_dir).remove(&from.name);
        self.children_mut(to_dir).insert(to.name.clone(), source);
        if let (Replace::Exchange, Some(target)) = (replace, target) {
            self.children_mut(from_dir).insert(from.name.clone(), target);
        }
        Ok(())
    }

    /// Writes into a regular file.
    pub fn write(&mut self, slot: &Slot, offset: usize, bytes: &[u8]) -> Done {
        write(self.data(slot)?, offset, bytes);
        Ok(())
    }

    pub fn truncate(&mut self, slot: &Slot, len: usize) -> Done {
        self.data(slot)?.resize(len, 0);
        Ok(())
    }

    fn data(&mut self, slot: &Slot) -> Result<&mut Vec<u8>, Refused> {
        let id = self.at(slot).ok_or(Refused::ByVfs)?;
        match &mut self.nodes[id].content {
            Content::File(data) => Ok(data),
            _ => Err(Refused::ByVfs),
        }
    }

    pub fn chmod(&mut self, slot: &Slot, mode: u32) -> Done {
        let id = self.at(slot).ok_or(Refused::ByVfs)?;
        let node = &mut self.nodes[id];
        if matches!(node.content, Content::Symlink(_)) {
            return Err(Refused::ByVfs);
        }
        node.mode = mode;
        Ok(())
    }

    /// A program that changes hands loses its set-id bits; a set-group-id bit
    /// without execution is a mark for locking and stays.
    pub fn chown(&mut self, slot: &Slot, ids: Ids) -> Done {
        let id = self.at(slot).ok_or(Refused::ByVfs)?;
        let is_dir = self.is_dir(id);
        let node = &mut self.nodes[id];
        (node.uid, node.gid) = (ids.uid, ids.gid);
        if !is_dir {
            let lost = if node.mode & 0o010 == 0 { 0o4000 } else { 0o6000 };
            node.mode &= !lost;
        }
        Ok(())
    }

    /// Sets or (with `None`) removes a `user.` attribute, which only files and
    /// directories can have.
    pub fn set_xattr(&mut self, slot: &Slot, name: &str, value: Option<&[u8]>) -> Done {
        let id = self.at(slot).ok_or(Refused::ByVfs)?;
        let node = &mut self.nodes[id];
        if !matches!(node.content, Content::Dir(_) | Content::File(_)) {
            return Err(Refused::ByVfs);
        }
        match value {
            Some(value) => drop(node.xattrs.insert(name.into(), value.to_vec())),
            None => drop(node.xattrs.remove(name).ok_or(Refused::With(rustix::io::Errno::NODATA))?),
        }
        Ok(())
    }
}

/// Writes into a file's data; a gap is filled with zeros.
pub fn write(data: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if data.len() < offset + bytes.len() {
        data.resize(offset + bytes.len(), 0);
    }
    data[offset..offset + bytes.len()].copy_from_slice(bytes);
}
