//! The differences as a layer's tar stream.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};

use rustix::fs::{FileType, Mode, OFlags};

use super::Upper;
use super::walk::{Contents, Found, Step, walk};
use crate::error::{Context, Result};
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::write::TarWriter;
use crate::pool::Pool;
use crate::tree::{Content, Meta, NodeId, Tree, joined};

/// Writes what the upper changed about the image as a layer that can be put on
/// it: whiteouts as `.wh.` files, hard links once, all attributes.
///
/// # Errors
/// What reading the upper or writing gave.
pub fn layer<W: Write>(upper: &Upper, tree: &Tree, pool: &Pool, out: W) -> Result<W> {
    let mut writer = Writer { upper, tree, pool, out: TarWriter::new(out), moved: HashMap::new() };
    walk(upper, tree, |step| writer.step(step))?;
    writer.out.finish()
}

struct Writer<'a, W: Write> {
    upper: &'a Upper,
    tree: &'a Tree,
    pool: &'a Pool,
    out: TarWriter<W>,
    /// First paths of files of the image that have several names.
    moved: HashMap<NodeId, Vec<u8>>,
}

impl<W: Write> Writer<'_, W> {
    fn step(&mut self, step: Step<'_>) -> Result<()> {
        match step {
            Step::Gone { path } => self.gone(path),
            Step::Dir { path, is, hides, .. } => {
                let mut entry = entry(dir_path(path), EntryKind::Dir, is.meta());
                entry.xattrs = is.xattrs(self.upper)?;
                self.out.entry(&entry, std::io::empty())?;
                match hides {
                    true => self.out.entry(&empty(joined(path, b".wh..wh..opq")), std::io::empty()),
                    false => Ok(()),
                }
            }
            Step::File { path, is, data, .. } => self.file(path, is, data),
            Step::Link { path, to, .. } => {
                let link = entry(path.to_vec(), EntryKind::HardLink(to.to_vec()), Meta::default());
                self.out.entry(&link, std::io::empty())
            }
            Step::Moved { path, from } => self.moved(path, from),
        }
    }

    /// A file that says what is not there any more.
    fn gone(&mut self, path: &[u8]) -> Result<()> {
        let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => path.split_at(slash + 1),
            None => (&[][..], path),
        };
        self.out.entry(&empty([dir, b".wh.", name].concat()), std::io::empty())
    }

    fn file(&mut self, path: &[u8], is: Found<'_>, data: Contents) -> Result<()> {
        let mut entry = entry(path.to_vec(), EntryKind::File, is.meta());
        entry.xattrs = is.xattrs(self.upper)?;
        let reading = || format!("read /{} in the upper", String::from_utf8_lossy(path));
        entry.kind = match FileType::from_raw_mode(is.stat.st_mode) {
            FileType::RegularFile => {
                if let Contents::Image(node) = data {
                    return self.contents(entry, node);
                }
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let file = rustix::fs::openat(is.dir, is.name, flags, Mode::empty()).context(reading)?;
                let file = File::from(file);
                // As long as it is now: somebody may be writing to it all the same.
                entry.size = file.metadata().context(reading)?.len();
                return self.out.entry(&entry, file.take(entry.size));
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(is.dir, is.name, Vec::new()).context(reading)?;
                EntryKind::Symlink(target.into_bytes())
            }
            FileType::CharacterDevice => EntryKind::Char(is.device()),
            FileType::BlockDevice => EntryKind::Block(is.device()),
            FileType::Fifo => EntryKind::Fifo,
            // A socket without its process is nothing.
            _ => return Ok(()),
        };
        self.out.entry(&entry, std::io::empty())
    }

    /// An entry with the contents of a file of the image.
    fn contents(&mut self, mut entry: Entry, node: NodeId) -> Result<()> {
        match self.tree.get(node).map(|node| &node.content) {
            Some(Content::Inline(bytes)) => {
                entry.size = bytes.len() as u64;
                self.out.entry(&entry, &bytes[..])
            }
            Some(Content::Object { id, size }) => {
                entry.size = *size;
                self.out.entry(&entry, self.pool.get(id)?)
            }
            _ => self.out.entry(&entry, std::io::empty()),
        }
    }

    /// A part of the image, under a new name.
    fn moved(&mut self, path: &[u8], from: NodeId) -> Result<()> {
        let tree = self.tree;
        let mut todo = vec![(path.to_vec(), from)];
        while let Some((path, id)) = todo.pop() {
            let Some(node) = tree.get(id) else { continue };
            let mut made = entry(path.clone(), EntryKind::File, node.meta);
            if !tree.is_dir(id) {
                if let Some(first) = self.moved.get(&id) {
                    made = entry(path, EntryKind::HardLink(first.clone()), Meta::default());
                    self.out.entry(&made, std::io::empty())?;
                    continue;
                }
                self.moved.insert(id, path.clone());
            }
            made.xattrs = node.xattrs.clone();
            made.kind = match &node.content {
                Content::Dir(_) => {
                    todo.extend(tree.entries(id).map(|(name, child)| (joined(&path, name), child)));
                    made.path = dir_path(&path);
                    EntryKind::Dir
                }
                Content::Inline(_) | Content::Object { .. } => {
                    self.contents(made, id)?;
                    continue;
                }
                Content::Symlink(target) => EntryKind::Symlink(target.to_vec()),
                Content::Char(device) => EntryKind::Char(*device),
                Content::Block(device) => EntryKind::Block(*device),
                Content::Fifo => EntryKind::Fifo,
                Content::Socket => continue,
            };
            self.out.entry(&made, std::io::empty())?;
        }
        Ok(())
    }
}

fn entry(path: Vec<u8>, kind: EntryKind, meta: Meta) -> Entry {
    Entry { path, kind, meta, xattrs: Default::default(), size: 0, stored: 0, sparse: None }
}

/// A file without contents, whose name says everything.
fn empty(path: Vec<u8>) -> Entry {
    entry(path, EntryKind::File, Meta::default())
}

fn dir_path(path: &[u8]) -> Vec<u8> {
    match path {
        [] => b"./".to_vec(),
        path => [path, b"/"].concat(),
    }
}
