//! A whole image's files in memory, as its layers merged give them: what the
//! index of an image is written from, and what two images are compared by.
//!
//! Nodes refer to each other by number; two names of one file have one node.
//! Names and targets are bytes. The tree holds no file contents but small ones.

use std::collections::BTreeMap;

use crate::object::ObjectId;

/// Index of a node in its [`Tree`].
pub type NodeId = u32;

/// The root's.
pub const ROOT: NodeId = 0;

/// The merged files of an image. Node 0 is the root, a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Every node; those no name leads to any more are left out of an index.
    pub nodes: Vec<Node>,
}

/// Extended attributes by their full names.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// One file of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Owner, mode, time.
    pub meta: Meta,
    /// Extended attributes by their full names.
    pub xattrs: Xattrs,
    /// What it is.
    pub content: Content,
}

/// What every file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The twelve permission bits; the type is the content's.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds, below 1,000,000,000.
    pub mtime_nsec: u32,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its entries, by name.
    Dir(BTreeMap<Box<[u8]>, NodeId>),
    /// A regular file small enough to lie in the index itself.
    Inline(Box<[u8]>),
    /// A regular file in the object pool.
    Object {
        /// Its name there.
        id: ObjectId,
        /// Its length, in bytes.
        size: u64,
    },
    /// A symbolic link's target.
    Symlink(Box<[u8]>),
    /// A character device.
    Char(Device),
    /// A block device.
    Block(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A device's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The driver's.
    pub major: u32,
    /// The device's own.
    pub minor: u32,
}

impl Tree {
    /// A tree of nothing but its root, mode 0755, root's.
    pub fn new() -> Tree {
        let meta = Meta { mode: 0o755, ..Meta::default() };
        Tree { nodes: vec![Node { meta, xattrs: BTreeMap::new(), content: Content::Dir(BTreeMap::new()) }] }
    }

    /// A node by its number.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    /// The entries of a directory; nothing else has any.
    pub fn entries(&self, id: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        let entries = match self.get(id).map(|node| &node.content) {
            Some(Content::Dir(entries)) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten().map(|(name, &id)| (&**name, id))
    }

    /// What has a name in a directory.
    pub fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.get(dir)?.content {
            Content::Dir(entries) => entries.get(name).copied(),
            _ => None,
        }
    }

    /// Whether a node is a directory.
    pub fn is_dir(&self, node: NodeId) -> bool {
        matches!(self.get(node).map(|node| &node.content), Some(Content::Dir(_)))
    }

    /// Every path and the node it leads to, directories before what is in them;
    /// without slashes at either end.
    pub fn paths(&self) -> impl Iterator<Item = (Vec<u8>, NodeId)> {
        let mut todo = vec![(Vec::new(), ROOT)];
        std::iter::from_fn(move || {
            let (path, id) = todo.pop()?;
            // Last in, first out: in the order of names.
            let entries: Vec<_> =
                self.entries(id).map(|(name, child)| (joined(&path, name), child)).collect();
            todo.extend(entries.into_iter().rev());
            Some((path, id))
        })
    }
}

/// A path one name longer.
pub(crate) fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir {
        [] => name.to_vec(),
        dir => [dir, b"/", name].concat(),
    }
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}
