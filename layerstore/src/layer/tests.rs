//! Tests of the whole way: a tar stream taken apart, put together, applied.

mod hostile;
mod merge;
mod mutations;
mod oracle;
mod roundtrip;

use std::fs::File;
use std::io::Read;

use super::apply::apply;
use super::entry::{Contents, Entry, EntryKind};
use super::framing::Framing;
use super::unpack::{Unpacked, unpack};
use super::write::TarWriter;
use super::{Error, Limits, Result};
use crate::digest::Digest;
use crate::error::Context;
use crate::pool::Pool;
use crate::scratch::Scratch;
use crate::tree::{Content, Meta, ROOT, Tree};

/// A pool of its own for each test.
struct Store {
    scratch: Scratch,
    pool: Pool,
}

impl Store {
    fn new() -> Store {
        let scratch = Scratch::new();
        Store { pool: Pool::open(scratch.path().join("pool")).unwrap(), scratch }
    }

    fn unpack(&self, tar: &[u8], limits: &Limits) -> Result<(Unpacked, Framing)> {
        let path = self.scratch.path().join("framing");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let (unpacked, file) = unpack(tar, &self.pool, limits, file.context(|| "create")?)?;
        Ok((unpacked, Framing::open(file)?))
    }

    /// Takes a stream apart; it must come back bit for bit.
    fn layer(&self, tar: &[u8]) -> Result<Framing> {
        let (unpacked, framing) = self.unpack(tar, &Limits::default())?;
        assert_eq!(unpacked.summary, framing.summary());
        assert_eq!(unpacked.objects, framing.objects());
        assert_eq!((unpacked.summary.size, unpacked.summary.diff_id), (tar.len() as u64, Digest::of(tar)));
        let mut back = Vec::new();
        framing.stream(&self.pool)?.read_to_end(&mut back)?;
        assert!(back == tar, "the stream comes back as another one");
        Ok(framing)
    }

    fn entries(&self, tar: &[u8]) -> Result<Vec<(Entry, Contents)>> {
        self.layer(tar)?.entries(&Limits::default())?.collect()
    }

    fn merge(&self, layers: &[&[u8]]) -> Result<Tree> {
        let mut tree = Tree::new();
        for tar in layers {
            apply(&mut tree, self.layer(tar)?.entries(&Limits::default())?, &Limits::default())?;
        }
        Ok(tree)
    }
}

/// An entry of these kinds: `dir/`, `file`, `link -> target`, `name = hard link`.
fn entry(text: &str) -> Entry {
    let (path, kind) = match (text.split_once(" -> "), text.split_once(" = ")) {
        (Some((path, target)), _) => (path, EntryKind::Symlink(target.into())),
        (_, Some((path, target))) => (path, EntryKind::HardLink(target.into())),
        _ if text.ends_with('/') => (text, EntryKind::Dir),
        _ => (text, EntryKind::File),
    };
    let mode = if kind == EntryKind::Dir { 0o700 } else { 0o644 };
    let meta = Meta { mode, uid: 1, gid: 2, mtime: 3, mtime_nsec: 0 };
    let size = if kind == EntryKind::File { path.len() as u64 } else { 0 };
    Entry { path: path.into(), kind, meta, xattrs: Default::default(), size, stored: size, sparse: None }
}

/// A layer of such entries; files contain their own paths.
fn tar(entries: &[&str]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for text in entries {
        let entry = entry(text);
        let contents = if entry.kind == EntryKind::File { &entry.path[..] } else { &[] };
        writer.entry(&entry, contents).unwrap();
    }
    writer.finish().unwrap()
}

/// Every path of a tree and what is there, as [`entry`] writes it; files as
/// `path: contents`, directories of other modes than 0700 as `path/ MODE`.
fn listing(tree: &Tree) -> Vec<String> {
    fn list(tree: &Tree, dir: u32, prefix: &str, lines: &mut Vec<String>) {
        for (name, id) in tree.entries(dir) {
            let path = format!("{prefix}{}", String::from_utf8_lossy(name));
            let node = tree.get(id).unwrap();
            match &node.content {
                Content::Dir(_) => {
                    let mode = if node.meta.mode == 0o700 {
                        String::new()
                    } else {
                        format!(" {:o}", node.meta.mode)
                    };
                    lines.push(format!("{path}/{mode}"));
                    list(tree, id, &format!("{path}/"), lines);
                }
                Content::Inline(bytes) => lines.push(format!("{path}: {}", String::from_utf8_lossy(bytes))),
                Content::Symlink(target) => {
                    lines.push(format!("{path} -> {}", String::from_utf8_lossy(target)))
                }
                other => lines.push(format!("{path} {other:?}")),
            }
        }
    }
    let mut lines = Vec::new();
    list(tree, ROOT, "", &mut lines);
    lines
}

/// A header block with these fields and a right checksum.
fn block(flag: u8, path: &[u8], size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..path.len()].copy_from_slice(path);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sum(block)
}

fn sum(mut block: [u8; 512]) -> [u8; 512] {
    let sum = super::header::checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A header of this kind before an entry: its block and its padded contents.
fn extension(flag: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = block(flag, b"extension", contents.len() as u64).to_vec();
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let len = (rest..).find(|len| rest + len.to_string().len() == *len).unwrap();
    format!("{len} {key}={value}\n").into()
}
