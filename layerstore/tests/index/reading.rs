//! A tree from an index, and trees in one form, to be compared.

use std::collections::{BTreeMap, HashMap};

use layerstore::object::ObjectId;
use layerstore::tree::{Content, Device, Meta, Node, NodeId, ROOT, Tree};
use unionfs::image::format::{ESCAPED_PREFIX, METACOPY, OVERLAY_PREFIX, REDIRECT};
use unionfs::image::{Contents, Index, Kind, Nid};

/// The index of a tree.
pub fn written(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    layerstore::index::write(tree, [7; 16], &mut bytes).unwrap();
    bytes
}

/// The tree that an index was written from, in the order of [`ordered`]; link
/// counts must be those of the tree.
pub fn tree_of(index: &Index) -> Tree {
    let mut tree = Tree { nodes: Vec::new() };
    let mut nids = vec![index.root()];
    let mut numbers = HashMap::from([(index.root(), ROOT)]);
    let mut names = HashMap::<Nid, u32>::new();
    let mut next = 0;
    while let Some(&nid) = nids.get(next) {
        next += 1;
        let attr = index.attr(nid).unwrap();
        assert_eq!(attr.ino, nid.0);
        let mut entries = BTreeMap::new();
        let mut dirs = 2;
        if attr.kind == Kind::Dir {
            for entry in index.entries(nid, 0).unwrap() {
                let entry = entry.unwrap();
                let number = *numbers.entry(entry.nid).or_insert_with(|| {
                    nids.push(entry.nid);
                    nids.len() as NodeId - 1
                });
                *names.entry(entry.nid).or_default() += 1;
                assert_eq!(index.lookup(nid, entry.name).unwrap(), Some(entry.nid));
                assert_eq!(index.attr(entry.nid).unwrap().kind, entry.kind);
                dirs += u32::from(entry.kind == Kind::Dir);
                assert!(entries.insert(entry.name.into(), number).is_none());
            }
            assert_eq!(attr.nlink, dirs);
            assert_eq!(index.lookup(nid, b".").unwrap(), Some(nid));
        }
        tree.nodes.push(node(index, nid, entries));
    }
    for (nid, number) in numbers {
        let attr = index.attr(nid).unwrap();
        assert!(attr.kind == Kind::Dir || Some(&attr.nlink) == names.get(&nid), "{nid} is {number}");
    }
    assert_eq!(index.inodes(), tree.nodes.len() as u64);
    tree
}

fn node(index: &Index, nid: Nid, entries: BTreeMap<Box<[u8]>, NodeId>) -> Node {
    let attr = index.attr(nid).unwrap();
    let device = Device { major: attr.rdev.0, minor: attr.rdev.1 };
    let mut xattrs = BTreeMap::new();
    for xattr in index.xattrs(nid).unwrap() {
        let xattr = xattr.unwrap();
        assert!(xattr.is_named(&xattr.name()));
        assert_eq!(index.xattr(nid, &xattr.name()).unwrap(), Some(xattr.value));
        xattrs.insert(xattr.name(), Box::from(xattr.value));
    }
    // What the index adds, it takes away again.
    let is_whiteout = xattrs.remove(&b"trusted.overlay.overlay.whiteout"[..]).is_some();
    if is_whiteout {
        xattrs.remove(&b"user.overlay.whiteout"[..]).unwrap();
    }
    if xattrs.remove(&b"trusted.overlay.overlay.whiteouts"[..]).is_some() {
        for name in ["user.overlay.whiteouts", "trusted.overlay.overlay.opaque", "user.overlay.opaque"] {
            xattrs.remove(name.as_bytes()).unwrap();
        }
    }
    xattrs.retain(|name, _| name != METACOPY && name != REDIRECT);
    let content = match attr.kind {
        Kind::Dir => Content::Dir(entries),
        Kind::Symlink => Content::Symlink(index.readlink(nid).unwrap().into()),
        Kind::Char => Content::Char(device),
        Kind::Block => Content::Block(device),
        Kind::Fifo => Content::Fifo,
        Kind::Socket => Content::Socket,
        Kind::File if is_whiteout => Content::Char(Device::default()),
        Kind::File => match index.contents(nid).unwrap() {
            Contents::Inline(data) => Content::Inline(data.pieces().concat().into()),
            Contents::Object { path, digest, size } => {
                let id = ObjectId(*digest.unwrap());
                assert_eq!(path, id.path().as_bytes());
                Content::Object { id, size }
            }
            Contents::Hole { .. } => panic!("{nid} is a hole"),
        },
    };
    let unescaped = |name: Vec<u8>| match name.strip_prefix(ESCAPED_PREFIX) {
        Some(rest) => [OVERLAY_PREFIX, rest].concat().into(),
        None => name.into(),
    };
    Node {
        meta: Meta {
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            mtime: attr.mtime,
            mtime_nsec: attr.mtime_nsec,
        },
        xattrs: xattrs.into_iter().map(|(name, value)| (unescaped(name), value)).collect(),
        content,
    }
}

/// The same tree, its nodes as they are found breadth first, without those that
/// are not found; an object of no bytes is no object.
pub fn ordered(tree: &Tree) -> Tree {
    let mut order = vec![ROOT];
    let mut numbers = HashMap::from([(ROOT, ROOT)]);
    let mut nodes = Vec::new();
    let mut next = 0;
    while let Some(&id) = order.get(next) {
        next += 1;
        let mut node = tree.nodes[id as usize].clone();
        match &mut node.content {
            Content::Dir(entries) => entries.values_mut().for_each(|child| {
                let id = *child;
                *child = *numbers.entry(id).or_insert_with(|| {
                    order.push(id);
                    order.len() as NodeId - 1
                });
            }),
            Content::Object { size: 0, .. } => node.content = Content::Inline([].into()),
            _ => {}
        }
        nodes.push(node);
    }
    Tree { nodes }
}
