//! The bytes of an index, in one stream: the second pass.

use std::io::{BufWriter, Write};

use unionfs::image::format::{
    self, Compact, Dirent, Extended, Header, SLOT, SUPERBLOCK_AT, Superblock, XattrHeader,
};
use zerocopy::IntoBytes;

use super::attribute::is_whiteout;
use super::plan::{BLOCK, CHUNK_BITS, Plan, Planned, device_number, dir_blocks, lost, xattr_icount};
use crate::error::Result;
use crate::tree::{Content, Node, NodeId};

/// Writes what was planned.
pub fn emit(plan: &Plan<'_>, uuid: [u8; 16], to: impl Write) -> Result<()> {
    let mut out = Out { to: BufWriter::new(to), at: 0 };
    out.put(header(plan).as_bytes())?;
    out.fill_up_to(SUPERBLOCK_AT)?;
    out.put(superblock(plan, uuid)?.as_bytes())?;
    for inode in &plan.inodes {
        out.fill_up_to(inode.at)?;
        out.put(&head(plan, inode)?)?;
        let bytes = contents(plan, inode)?;
        let tail = usize::try_from(inode.body.blocks * BLOCK).ok().and_then(|at| bytes.get(at..));
        if inode.body.tail > 0 {
            out.put(tail.ok_or_else(lost)?)?;
        }
    }
    out.fill_up_to(plan.shared_at)?;
    for attribute in plan.shared.keys() {
        out.put(&attribute.entry()?)?;
    }
    for inode in plan.inodes.iter().filter(|inode| inode.body.blocks > 0) {
        out.fill_up_to(inode.blocks_at)?;
        let bytes = contents(plan, inode)?;
        let end = bytes.len() - usize::try_from(inode.body.tail).unwrap_or(0).min(bytes.len());
        out.put(bytes.get(..end).ok_or_else(lost)?)?;
    }
    out.fill_up_to(plan.end)?;
    Ok(out.to.flush()?)
}

/// Counts what it passes on.
struct Out<W: Write> {
    to: BufWriter<W>,
    at: u64,
}

impl<W: Write> Out<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to a place that must not be behind.
    fn fill_up_to(&mut self, place: u64) -> Result<()> {
        let gap = place.checked_sub(self.at).filter(|&gap| gap < 2 * BLOCK).ok_or_else(lost)?;
        self.put(&vec![0; gap as usize])
    }
}

fn header(plan: &Plan<'_>) -> Header {
    Header {
        magic: format::COMPOSEFS_MAGIC.into(),
        version: format::COMPOSEFS_FORMAT.into(),
        flags: if plan.has_acl { format::COMPOSEFS_HAS_ACL } else { 0 }.into(),
        composefs_version: format::COMPOSEFS_VERSION.into(),
        ..Header::default()
    }
}

fn superblock(plan: &Plan<'_>, uuid: [u8; 16]) -> Result<Superblock> {
    let root = plan.inodes.first().ok_or_else(lost)?;
    let (seconds, nanoseconds) = plan.epoch;
    Ok(Superblock {
        magic: format::EROFS_MAGIC.into(),
        feature_compat: format::COMPAT_MTIME.into(),
        feature_incompat: if plan.has_objects { format::INCOMPAT_CHUNKED_FILE } else { 0 }.into(),
        blkszbits: BLOCK.trailing_zeros() as u8,
        root_nid: u16::try_from(root.at / SLOT).map_err(|_| lost())?.into(),
        inos: (plan.inodes.len() as u64).into(),
        build_time: (seconds as u64).into(),
        build_time_nsec: nanoseconds.into(),
        blocks: block_number(plan.end)?.into(),
        xattr_blkaddr: block_number(plan.shared_at)?.into(),
        uuid,
        ..Superblock::default()
    })
}

fn block_number(at: u64) -> Result<u32> {
    u32::try_from(at / BLOCK).map_err(|_| lost())
}

/// An inode and its attributes.
fn head(plan: &Plan<'_>, inode: &Planned<'_>) -> Result<Vec<u8>> {
    let meta = &inode.node.meta;
    let mode = meta.mode & 0o7777 | file_type(inode.node).0;
    let xattr_icount = xattr_icount(inode.xattrs_len).ok_or_else(lost)?;
    let form = if inode.is_compact { 0 } else { format::EXTENDED };
    let form = form | inode.body.layout << format::LAYOUT_SHIFT;
    let u = match &inode.node.content {
        Content::Char(device) | Content::Block(device) => device_number(*device).ok_or_else(lost)?,
        _ if inode.body.layout == format::LAYOUT_CHUNKED => CHUNK_BITS,
        _ => block_number(inode.blocks_at)?,
    };
    // For programs that cannot take 64 bits; nobody else reads it.
    let ino = (inode.at / SLOT) as u32;
    let narrow = |number: u32| u16::try_from(number).map_err(|_| lost());
    let mut bytes = if inode.is_compact {
        let compact = Compact {
            format: form.into(),
            xattr_icount: xattr_icount.into(),
            mode: mode.into(),
            nlink: narrow(inode.nlink)?.into(),
            size: u32::try_from(inode.body.size).map_err(|_| lost())?.into(),
            u: u.into(),
            ino: ino.into(),
            uid: narrow(meta.uid)?.into(),
            gid: narrow(meta.gid)?.into(),
            ..Compact::default()
        };
        compact.as_bytes().to_vec()
    } else {
        let extended = Extended {
            format: form.into(),
            xattr_icount: xattr_icount.into(),
            mode: mode.into(),
            size: inode.body.size.into(),
            u: u.into(),
            ino: ino.into(),
            uid: meta.uid.into(),
            gid: meta.gid.into(),
            mtime: (meta.mtime as u64).into(),
            mtime_nsec: meta.mtime_nsec.into(),
            nlink: inode.nlink.into(),
            ..Extended::default()
        };
        extended.as_bytes().to_vec()
    };
    if xattr_icount > 0 {
        let (numbers, own) = plan.split(inode);
        let shared_count = u8::try_from(numbers.len()).map_err(|_| lost())?;
        bytes.extend(XattrHeader { shared_count, ..XattrHeader::default() }.as_bytes());
        numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        for attribute in own {
            bytes.extend(attribute.entry()?);
        }
    }
    Ok(bytes)
}

/// What lies in whole blocks, and what behind the inode.
fn contents<'a>(plan: &Plan<'_>, inode: &'a Planned<'_>) -> Result<std::borrow::Cow<'a, [u8]>> {
    Ok(match &inode.node.content {
        Content::Dir(_) => directory(plan, inode)?.into(),
        Content::Inline(bytes) | Content::Symlink(bytes) => (&**bytes).into(),
        _ => vec![0xff; usize::try_from(inode.body.tail).map_err(|_| lost())?].into(),
    })
}

/// The entries of a directory, every block but the last filled up; the last as
/// well, where it is not behind the inode.
fn directory(plan: &Plan<'_>, inode: &Planned<'_>) -> Result<Vec<u8>> {
    let dots: [(&[u8], NodeId); 2] = [(b".", inode.id), (b"..", inode.parent)];
    let mut entries: Vec<_> = plan.tree.entries(inode.id).chain(dots).collect();
    entries.sort_unstable();
    let mut bytes = Vec::new();
    let mut rest = &entries[..];
    for (count, _) in dir_blocks(entries.iter().map(|(name, _)| name.len())) {
        let (block, others) = rest.split_at_checked(count).ok_or_else(lost)?;
        rest = others;
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        let mut nameoff = count * size_of::<Dirent>();
        for &(name, id) in block {
            let child = plan.planned(id).ok_or_else(lost)?;
            let dirent = Dirent {
                nid: (child.at / SLOT).into(),
                nameoff: u16::try_from(nameoff).map_err(|_| lost())?.into(),
                file_type: file_type(child.node).1,
                reserved: 0,
            };
            bytes.extend(dirent.as_bytes());
            nameoff += name.len();
        }
        block.iter().for_each(|(name, _)| bytes.extend(*name));
    }
    if inode.body.tail == 0 {
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    }
    Ok(bytes)
}

/// `S_IFMT`, and `FT_*` as directories have it. A whiteout is an empty file.
fn file_type(node: &Node) -> (u16, u8) {
    match node.content {
        _ if is_whiteout(node) => (0o100000, 1),
        Content::Inline(_) | Content::Object { .. } => (0o100000, 1),
        Content::Dir(_) => (0o040000, 2),
        Content::Char(_) => (0o020000, 3),
        Content::Block(_) => (0o060000, 4),
        Content::Fifo => (0o010000, 5),
        Content::Socket => (0o140000, 6),
        Content::Symlink(_) => (0o120000, 7),
    }
}
