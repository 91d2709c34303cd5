//! Where everything of an index is: the first pass, which also finds whatever
//! is wrong with a tree.

use std::collections::{BTreeMap, HashMap};

use unionfs::image::format::{
    self, Compact, Extended, NAME_MAX, SLOT, SUPERBLOCK_AT, Superblock, XATTR_ALIGN, XattrHeader,
};

use super::attribute::{Attribute, attributes, is_whiteout};
use crate::error::{Context, Error, Kind, Result};
use crate::tree::{Content, Device, Node, NodeId, ROOT, Tree};

pub const BLOCK: u64 = 4096;

/// The longest last block that is put behind its inode: more would leave more
/// room unused before it, as it must not lie in two blocks.
const TAIL_MAX: u64 = BLOCK / 2;

/// Two to this many blocks is a chunk: the largest the format has, 8 TiB, so
/// that a file is one.
pub const CHUNK_BITS: u32 = format::CHUNK_BITS_MASK;
const CHUNK: u64 = BLOCK << CHUNK_BITS;

/// The longest target the kernel follows.
const TARGET_MAX: usize = 4095;

/// How many shared attributes an inode can have: their count is a byte.
const SHARED_MAX: usize = 255;

/// One inode.
pub struct Planned<'a> {
    pub id: NodeId,
    pub node: &'a Node,
    /// A directory's parent, the root's being itself; else one of its directories.
    pub parent: NodeId,
    pub nlink: u32,
    /// For directories: a child is a whiteout.
    pub has_whiteouts: bool,
    pub body: Body,
    /// Where its inode is.
    pub at: u64,
    /// Where its blocks are, if it has any.
    pub blocks_at: u64,
    pub is_compact: bool,
    pub xattrs_len: u64,
}

/// How an inode's bytes are laid out.
#[derive(Clone, Copy, Default)]
pub struct Body {
    pub layout: u16,
    pub size: u64,
    /// In whole blocks.
    pub blocks: u64,
    /// Behind the inode, in bytes.
    pub tail: u64,
}

/// The whole index.
pub struct Plan<'a> {
    pub tree: &'a Tree,
    /// In the order of their places.
    pub inodes: Vec<Planned<'a>>,
    /// Where in `inodes` a node is.
    places: Vec<Option<u32>>,
    /// The time of compact inodes: the one that most have.
    pub epoch: (i64, u32),
    pub has_acl: bool,
    pub has_objects: bool,
    /// Attributes that occur more than once, each with its number.
    pub shared: BTreeMap<Attribute<'a>, u32>,
    /// Where the inodes end, and the attributes begin.
    pub shared_at: u64,
    /// Where the blocks begin, and where they end.
    pub blocks_at: u64,
    pub end: u64,
}

impl<'a> Plan<'a> {
    pub fn new(tree: &'a Tree) -> Result<Plan<'a>> {
        let mut plan = Plan {
            tree,
            inodes: Vec::new(),
            places: vec![None; tree.nodes.len()],
            epoch: (0, 0),
            has_acl: false,
            has_objects: false,
            shared: BTreeMap::new(),
            shared_at: 0,
            blocks_at: 0,
            end: 0,
        };
        plan.walk()?;
        plan.epoch = plan.commonest_time();
        let shared = plan.count_attributes();
        plan.place_inodes()?;
        plan.place_attributes(shared)?;
        plan.place_blocks()?;
        Ok(plan)
    }

    /// What a node is in the index; nothing for one that no name leads to.
    pub fn planned(&self, id: NodeId) -> Option<&Planned<'a>> {
        let place = self.places.get(id as usize).copied().flatten()?;
        self.inodes.get(place as usize)
    }

    /// The attributes of an inode: the numbers of the shared ones, and the others.
    pub fn split(&self, inode: &Planned<'a>) -> (Vec<u32>, Vec<Attribute<'a>>) {
        let mut numbers = Vec::new();
        let mut own = attributes(inode.node, inode.has_whiteouts);
        own.retain(|one| match self.shared.get(one) {
            Some(&number) if numbers.len() < SHARED_MAX => {
                numbers.push(number);
                false
            }
            _ => true,
        });
        (numbers, own)
    }

    /// Finds every node that a name leads to, checks it and counts its names.
    fn walk(&mut self) -> Result<()> {
        let tree = self.tree;
        match self.add(ROOT, ROOT)?.content {
            Content::Dir(_) => {}
            _ => return Err(invalid("the root of the tree is not a directory")),
        }
        let mut next = 0;
        while let Some(id) = self.inodes.get(next).map(|inode| inode.id) {
            for (name, child) in tree.entries(id) {
                check_name(name)?;
                let node =
                    self.enter(child, id).context(|| format!("{:?}", String::from_utf8_lossy(name)))?;
                if let Some(dir) = self.inodes.get_mut(next) {
                    dir.has_whiteouts |= is_whiteout(node);
                    dir.nlink += u32::from(matches!(node.content, Content::Dir(_)));
                }
            }
            next += 1;
        }
        Ok(())
    }

    /// A name leads to a node.
    fn enter(&mut self, id: NodeId, parent: NodeId) -> Result<&'a Node> {
        let Some(place) = self.places.get(id as usize).copied().flatten() else {
            return self.add(id, parent);
        };
        let Some(inode) = self.inodes.get_mut(place as usize) else { return Err(lost()) };
        if let Content::Dir(_) = inode.node.content {
            return Err(invalid("a directory with two names"));
        }
        inode.nlink += 1;
        Ok(inode.node)
    }

    fn add(&mut self, id: NodeId, parent: NodeId) -> Result<&'a Node> {
        let (Some(node), Some(place)) = (self.tree.get(id), self.places.get_mut(id as usize)) else {
            return Err(invalid("a name of no node"));
        };
        *place = Some(self.inodes.len() as u32);
        if node.meta.mtime_nsec >= 1_000_000_000 {
            return Err(invalid("a time with a whole second of nanoseconds"));
        }
        let nlink = if matches!(node.content, Content::Dir(_)) { 2 } else { 1 };
        self.has_objects |= matches!(node.content, Content::Object { size, .. } if size > 0);
        self.inodes.push(Planned {
            id,
            node,
            parent,
            nlink,
            has_whiteouts: false,
            body: body(node)?,
            at: 0,
            blocks_at: 0,
            is_compact: false,
            xattrs_len: 0,
        });
        Ok(node)
    }

    /// The time that most inodes have; of equal ones, the earliest.
    fn commonest_time(&self) -> (i64, u32) {
        let mut times = HashMap::<_, u32>::new();
        for inode in &self.inodes {
            *times.entry((inode.node.meta.mtime, inode.node.meta.mtime_nsec)).or_default() += 1;
        }
        let commonest = times.into_iter().max_by_key(|&(time, count)| (count, std::cmp::Reverse(time)));
        commonest.map(|(time, _)| time).unwrap_or_default()
    }

    /// The attributes that more than one inode has. Their numbers come later, but
    /// how long a number is does not depend on it.
    fn count_attributes(&mut self) -> Vec<Attribute<'a>> {
        let mut counts = HashMap::<_, u32>::new();
        for inode in &self.inodes {
            for attribute in attributes(inode.node, inode.has_whiteouts) {
                self.has_acl |= attribute.is_acl();
                *counts.entry(attribute).or_default() += 1;
            }
        }
        let mut shared: Vec<_> =
            counts.into_iter().filter(|&(_, count)| count > 1).map(|(one, _)| one).collect();
        shared.sort_unstable();
        self.shared = shared.iter().map(|&one| (one, 0)).collect();
        shared
    }

    fn place_inodes(&mut self) -> Result<()> {
        let mut at = SUPERBLOCK_AT + size_of::<Superblock>() as u64;
        let mut inodes = std::mem::take(&mut self.inodes);
        for inode in &mut inodes {
            let meta = &inode.node.meta;
            inode.xattrs_len = self.xattrs_len(inode)?;
            inode.is_compact = (meta.mtime, meta.mtime_nsec) == self.epoch
                && inode.nlink <= u16::MAX.into()
                && meta.uid.max(meta.gid) <= u16::MAX.into()
                && inode.body.size <= u32::MAX.into();
            let head = inode.head_len();
            at = at.next_multiple_of(SLOT);
            if matches!(inode.node.content, Content::Symlink(_)) {
                // Kernels before 6.8 want the inode and its target in one block.
                if head + inode.body.tail > BLOCK {
                    inode.body =
                        Body { layout: format::LAYOUT_PLAIN, size: inode.body.size, blocks: 1, tail: 0 };
                } else if at / BLOCK != (at + head + inode.body.tail - 1) / BLOCK {
                    at = at.next_multiple_of(BLOCK);
                }
            } else if inode.body.layout == format::LAYOUT_INLINE {
                let left = BLOCK - (at + head) % BLOCK;
                if left < inode.body.tail {
                    at += left.next_multiple_of(SLOT);
                }
            }
            inode.at = at;
            at += head + inode.body.tail;
        }
        self.inodes = inodes;
        self.shared_at = at.next_multiple_of(XATTR_ALIGN);
        Ok(())
    }

    fn xattrs_len(&self, inode: &Planned<'a>) -> Result<u64> {
        let (numbers, own) = self.split(inode);
        if numbers.is_empty() && own.is_empty() {
            return Ok(0);
        }
        let mut len = size_of::<XattrHeader>() as u64 + numbers.len() as u64 * XATTR_ALIGN;
        for attribute in own {
            len += attribute.entry()?.len() as u64;
        }
        match xattr_icount(len) {
            Some(_) => Ok(len),
            None => Err(limit("more than 256 KiB of attributes")),
        }
    }

    /// Shared attributes are numbered from the block in which they begin.
    fn place_attributes(&mut self, shared: Vec<Attribute<'a>>) -> Result<()> {
        let mut at = self.shared_at;
        for attribute in shared {
            let number = (at - self.shared_at / BLOCK * BLOCK) / XATTR_ALIGN;
            let number = u32::try_from(number).map_err(|_| limit("16 GiB of attributes"))?;
            self.shared.insert(attribute, number);
            at += attribute.entry()?.len() as u64;
        }
        self.blocks_at = at.next_multiple_of(BLOCK);
        Ok(())
    }

    fn place_blocks(&mut self) -> Result<()> {
        let mut at = self.blocks_at;
        for inode in self.inodes.iter_mut().filter(|inode| inode.body.blocks > 0) {
            inode.blocks_at = at;
            at += inode.body.blocks * BLOCK;
        }
        self.end = at;
        match u32::try_from(self.end / BLOCK) {
            Ok(_) => Ok(()),
            Err(_) => Err(limit("an index of 16 TiB")),
        }
    }
}

impl Planned<'_> {
    /// The inode with its attributes.
    pub fn head_len(&self) -> u64 {
        let inode = if self.is_compact { size_of::<Compact>() } else { size_of::<Extended>() };
        inode as u64 + self.xattrs_len
    }
}

/// The length of attributes as an inode has it: the header is one unit.
pub fn xattr_icount(len: u64) -> Option<u16> {
    match len.checked_sub(size_of::<XattrHeader>() as u64) {
        None => Some(0),
        Some(rest) => u16::try_from(rest / XATTR_ALIGN + 1).ok(),
    }
}

fn body(node: &Node) -> Result<Body> {
    let flat = |size: u64| {
        let (blocks, tail) = (size / BLOCK, size % BLOCK);
        match tail {
            1..=TAIL_MAX => Body { layout: format::LAYOUT_INLINE, size, blocks, tail },
            _ => Body { layout: format::LAYOUT_PLAIN, size, blocks: size.div_ceil(BLOCK), tail: 0 },
        }
    };
    Ok(match &node.content {
        Content::Dir(entries) => flat(dir_size(entries.keys().map(|name| &**name))),
        Content::Inline(bytes) => flat(bytes.len() as u64),
        Content::Object { size: 0, .. } => flat(0),
        Content::Object { size, .. } => match size.div_ceil(CHUNK) {
            // What a file can have on Linux, of `loff_t`, is 2^20 chunks; one
            // block of them is 8 PiB.
            chunks @ ..=1024 => {
                let tail = chunks * size_of::<u32>() as u64;
                Body { layout: format::LAYOUT_CHUNKED, size: *size, blocks: 0, tail }
            }
            _ => return Err(limit("a file over 8 PiB")),
        },
        Content::Symlink(target) => {
            if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
                return Err(invalid("a link with no valid target"));
            }
            let size = target.len() as u64;
            Body { layout: format::LAYOUT_INLINE, size, blocks: 0, tail: size }
        }
        Content::Char(device) | Content::Block(device) => match device_number(*device) {
            Some(_) => flat(0),
            None => return Err(limit(format!("device {}:{}", device.major, device.minor))),
        },
        Content::Fifo | Content::Socket => flat(0),
    })
}

/// `new_encode_dev` of the kernel: twelve bits and twenty.
pub fn device_number(device: Device) -> Option<u32> {
    let Device { major, minor } = device;
    (major <= 0xfff && minor <= 0xf_ffff).then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// The bytes of a directory with these names, in order, `.` and `..` being among
/// them wherever they belong. All its blocks are full ones but the last, which
/// is as long as it needs to be if that is short.
fn dir_size<'n>(names: impl Iterator<Item = &'n [u8]>) -> u64 {
    let mut names: Vec<_> = names.chain([&b"."[..], b".."]).collect();
    names.sort_unstable();
    let blocks = dir_blocks(names.iter().map(|name| name.len()));
    let last = blocks.last().map_or(0, |&(_, len)| len);
    let full = BLOCK * (blocks.len() as u64).saturating_sub(1);
    full + if last <= TAIL_MAX { last } else { BLOCK }
}

/// How many entries each block of a directory has, and how many bytes they need;
/// from the lengths of their names.
pub fn dir_blocks(lens: impl Iterator<Item = usize>) -> Vec<(usize, u64)> {
    let mut blocks: Vec<(usize, u64)> = Vec::new();
    for len in lens {
        let len = (size_of::<format::Dirent>() + len) as u64;
        match blocks.last_mut() {
            Some((entries, bytes)) if *bytes + len <= BLOCK => {
                *entries += 1;
                *bytes += len;
            }
            _ => blocks.push((1, len)),
        }
    }
    blocks
}

fn check_name(name: &[u8]) -> Result<()> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(invalid(format!("{:?} is no name", shown())));
    }
    if name.len() > NAME_MAX {
        return Err(limit(format!("the name {:?} of more than {NAME_MAX} bytes", shown())));
    }
    Ok(())
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, what)
}

fn limit(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Limit, format!("an index cannot hold {what}"))
}

/// The two passes disagree.
pub fn lost() -> Error {
    Error::new(Kind::System, "the index of an image was planned wrongly")
}
