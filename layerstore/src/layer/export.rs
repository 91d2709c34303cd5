//! An image's files as a tar stream: directories before what is in them, names
//! in order, contents at a file's first name and hard links at the others.
//! The same tree gives the same bytes.

use std::collections::HashMap;
use std::io::Write;

use super::entry::{Entry, EntryKind};
use super::write::TarWriter;
use crate::error::{Error, Kind, Result};
use crate::pool::Pool;
use crate::tree::{Content, Node, NodeId, ROOT, Tree};

/// No tree of ours is deeper; one that is has a loop.
const DEPTH: usize = 4096;

/// Writes all files of the tree, the root (`./`) first. Sockets are left out:
/// an archive cannot hold them, and without their process they are nothing.
pub fn export<W: Write>(tree: &Tree, pool: &Pool, out: W) -> Result<W> {
    let mut export = Export { tree, pool, out: TarWriter::new(out), names: HashMap::new() };
    export.node(ROOT, b"./")?;
    // What is left of each directory from the root down.
    let mut open = vec![(Vec::new(), tree.entries(ROOT))];
    while let Some((dir, entries)) = open.last_mut() {
        let Some((name, id)) = entries.next() else {
            open.pop();
            continue;
        };
        let mut path = [dir, name].concat();
        let is_dir = matches!(tree.get(id), Some(Node { content: Content::Dir(_), .. }));
        if is_dir {
            path.push(b'/');
        }
        export.node(id, &path)?;
        if is_dir {
            open.push((path, tree.entries(id)));
        }
        if open.len() > DEPTH {
            return Err(Error::new(Kind::Corrupt, "the tree of files is too deep"));
        }
    }
    export.out.finish()
}

struct Export<'a, W: Write> {
    tree: &'a Tree,
    pool: &'a Pool,
    out: TarWriter<W>,
    /// The first name of each file.
    names: HashMap<NodeId, Vec<u8>>,
}

impl<W: Write> Export<'_, W> {
    fn node(&mut self, id: NodeId, path: &[u8]) -> Result<()> {
        let node =
            self.tree.get(id).ok_or_else(|| Error::new(Kind::Corrupt, "a name in the tree leads nowhere"))?;
        let mut entry = Entry {
            path: path.to_vec(),
            kind: EntryKind::File,
            meta: node.meta,
            xattrs: node.xattrs.clone(),
            size: 0,
            stored: 0,
            sparse: None,
        };
        if !matches!(node.content, Content::Dir(_)) {
            if let Some(first) = self.names.get(&id) {
                entry.kind = EntryKind::HardLink(first.clone());
                entry.xattrs.clear();
                return self.out.entry(&entry, std::io::empty());
            }
            self.names.insert(id, path.to_vec());
        }
        entry.kind = match &node.content {
            Content::Inline(bytes) => {
                entry.size = bytes.len() as u64;
                return self.out.entry(&entry, &bytes[..]);
            }
            Content::Object { id, size } => {
                entry.size = *size;
                return self.out.entry(&entry, self.pool.get(id)?);
            }
            Content::Dir(_) => EntryKind::Dir,
            Content::Symlink(target) => EntryKind::Symlink(target.to_vec()),
            Content::Char(device) => EntryKind::Char(*device),
            Content::Block(device) => EntryKind::Block(*device),
            Content::Fifo => EntryKind::Fifo,
            Content::Socket => return Ok(()),
        };
        self.out.entry(&entry, std::io::empty())
    }
}
