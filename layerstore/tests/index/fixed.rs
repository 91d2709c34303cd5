//! One tree of everything, and trees that cannot be.

use std::collections::BTreeMap;

use layerstore::error::Kind;
use layerstore::object::ObjectId;
use layerstore::tree::{Content, Device, Meta, Node, NodeId, ROOT, Tree};
use unionfs::image::Index;

use crate::reading::{ordered, tree_of, written};

/// A tree, and what its objects hold.
pub struct Mixed {
    pub tree: Tree,
    pub objects: Vec<(ObjectId, Vec<u8>)>,
}

/// Every kind of file at every limit, as far as the kernel shows it.
pub fn mixed() -> Mixed {
    let mut tree = Tree::new();
    let mut objects = Vec::new();
    set(&mut tree, ROOT, "trusted.of-the-root", b"value");
    tree.nodes[0].meta =
        Meta { mode: 0o1755, uid: 3, gid: 70_000, mtime: 1_600_000_000, mtime_nsec: 999_999_999 };
    let etc = add(&mut tree, ROOT, b"etc", Content::Dir(BTreeMap::new()));
    for len in [0, 1, 64, 2048, 2049, 4095, 4096, 4097, 6144, 6145, 8192, 20_000] {
        let bytes: Vec<u8> = (0..len).map(|i| (i / 3) as u8).collect();
        add(&mut tree, etc, format!("inline-{len}").as_bytes(), Content::Inline(bytes.into()));
    }
    for len in [1, 4096, 100_000] {
        let bytes: Vec<u8> = (0..len).map(|i| (i / 5) as u8).collect();
        let content = Content::Object { id: ObjectId::of(&bytes), size: len };
        let first = add(&mut tree, etc, format!("object-{len}").as_bytes(), content.clone());
        add(&mut tree, ROOT, format!("same-object-{len}").as_bytes(), content);
        link(&mut tree, ROOT, format!("same-file-{len}").as_bytes(), first);
        objects.push((ObjectId::of(&bytes), bytes));
    }
    let long: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').chain([b'!']).collect();
    let last = add(&mut tree, ROOT, &long, Content::Dir(BTreeMap::new()));
    for len in [1, 100, 3900, 3950, 4000, 4032, 4064, 4095] {
        add(&mut tree, last, format!("link-{len}").as_bytes(), Content::Symlink(vec![b't'; len].into()));
    }
    let dev = add(&mut tree, ROOT, b"dev", Content::Dir(BTreeMap::new()));
    add(&mut tree, dev, b"null", Content::Char(Device { major: 1, minor: 3 }));
    add(&mut tree, dev, b"large", Content::Block(Device { major: 0xfff, minor: 0xf_ffff }));
    add(&mut tree, dev, b"fifo", Content::Fifo);
    add(&mut tree, dev, b"socket", Content::Socket);
    let layer = add(&mut tree, ROOT, b"layer", Content::Dir(BTreeMap::new()));
    add(&mut tree, layer, b"whiteout", Content::Char(Device::default()));
    set(&mut tree, etc, "trusted.overlay.opaque", b"y");
    set(&mut tree, etc, "trusted.overlay.overlay.opaque", b"n");
    set(&mut tree, etc, "user.of-a-directory", &[7; 5000]);
    // Version 2 of `struct vfs_cap_data`, CAP_NET_RAW.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // user::rw- user:1000:r-- group::r-- mask::r-- other::---
    let acl =
        [2_u32, 0x6_0001, u32::MAX, 0x4_0002, 1000, 0x4_0004, u32::MAX, 0x4_0010, u32::MAX, 0x20, u32::MAX];
    let acl: Vec<u8> = acl.iter().flat_map(|word| word.to_le_bytes()).collect();
    for dir in 0..30 {
        let id = add(&mut tree, ROOT, format!("dir-{dir}").as_bytes(), Content::Dir(BTreeMap::new()));
        for file in 0..dir * dir {
            let name = format!("{}-{file}", "name".repeat(dir / 3));
            let id = add(&mut tree, id, name.as_bytes(), Content::Inline([dir as u8].into()));
            set(&mut tree, id, "security.capability", &capability);
            tree.nodes[id as usize].meta.mtime = if file % 2 == 0 { -5 } else { 1 << 33 };
        }
        let id = add(&mut tree, id, b"acl", Content::Inline([].into()));
        tree.nodes[id as usize].meta.mode = 0o640;
        set(&mut tree, id, "system.posix_acl_access", &acl);
    }
    Mixed { tree, objects }
}

fn add(tree: &mut Tree, dir: NodeId, name: &[u8], content: Content) -> NodeId {
    let id = tree.nodes.len() as u32;
    let meta = Meta { mode: 0o6750, uid: id % 3 * 60_000, gid: id, mtime: 1_700_000_000, mtime_nsec: 7 };
    put(tree, dir, name, Node { meta, xattrs: BTreeMap::new(), content })
}

pub fn put(tree: &mut Tree, dir: NodeId, name: &[u8], node: Node) -> NodeId {
    let id = tree.nodes.len() as u32;
    tree.nodes.push(node);
    link(tree, dir, name, id);
    id
}

fn link(tree: &mut Tree, dir: NodeId, name: &[u8], id: NodeId) {
    let Content::Dir(entries) = &mut tree.nodes[dir as usize].content else { panic!("no directory") };
    entries.insert(name.into(), id);
}

fn set(tree: &mut Tree, id: NodeId, name: &str, value: &[u8]) {
    tree.nodes[id as usize].xattrs.insert(name.as_bytes().into(), value.into());
}

#[test]
fn everything_is_read_back() {
    let tree = mixed().tree;
    assert_eq!(tree_of(&Index::from_bytes(written(&tree)).unwrap()), ordered(&tree));
}

/// Through a file, too.
#[test]
fn an_index_is_mapped() {
    let tree = mixed().tree;
    let path = std::env::temp_dir().join(format!("index-{}", std::process::id()));
    std::fs::write(&path, written(&tree)).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(tree_of(&Index::open(&file).unwrap()), ordered(&tree));
    drop(file);
    assert!(Index::open(std::fs::File::open("/").unwrap()).is_err());
    assert!(Index::open(std::fs::File::open("/dev/null").unwrap()).is_err());
}

#[test]
fn a_hundred_thousand_entries() {
    let mut tree = Tree::new();
    for i in 0..100_000 {
        add(&mut tree, ROOT, format!("{i:x}-of-many").as_bytes(), Content::Fifo);
    }
    let index = Index::from_bytes(written(&tree)).unwrap();
    assert_eq!(tree_of(&index), ordered(&tree));
    assert_eq!(index.lookup(index.root(), b"none").unwrap(), None);
    // Read in pieces, each from where the last ended.
    let (mut from, mut count) = (0, 0);
    loop {
        let mut piece = index.entries(index.root(), from).unwrap().take(997).map(Result::unwrap);
        let before = count;
        piece.by_ref().for_each(|entry| {
            from = entry.next;
            count += 1;
        });
        if count == before {
            break;
        }
    }
    assert_eq!(count, 100_000);
}

#[test]
fn more_attributes_than_can_be_shared() {
    let mut tree = Tree::new();
    for name in [b"a", b"b"] {
        let id = add(&mut tree, ROOT, name, Content::Fifo);
        (0..400).for_each(|i| set(&mut tree, id, &format!("trusted.{i}"), b"the same"));
    }
    assert_eq!(tree_of(&Index::from_bytes(written(&tree)).unwrap()), ordered(&tree));
}

#[test]
fn what_cannot_be_is_refused() {
    type Spoil = fn(&mut Tree);
    let cases: [(Kind, &str, Spoil); 15] = [
        (Kind::Invalid, "two names", |tree| link(tree, 1, b"loop", 1)),
        (Kind::Invalid, "two names", |tree| link(tree, 1, b"root", ROOT)),
        (Kind::Invalid, "of no node", |tree| link(tree, 1, b"gone", 99)),
        (Kind::Invalid, "is no name", |tree| link(tree, 1, b"..", 2)),
        (Kind::Invalid, "is no name", |tree| link(tree, 1, b"", 2)),
        (Kind::Invalid, "is no name", |tree| link(tree, 1, b"a/b", 2)),
        (Kind::Limit, "255 bytes", |tree| link(tree, 1, &[b'n'; 256], 2)),
        (Kind::Invalid, "target", |tree| tree.nodes[2].content = Content::Symlink([].into())),
        (Kind::Invalid, "target", |tree| tree.nodes[2].content = Content::Symlink([1; 4096].into())),
        (Kind::Limit, "device", |tree| {
            tree.nodes[2].content = Content::Char(Device { major: 4096, minor: 0 });
        }),
        (Kind::Invalid, "nanoseconds", |tree| tree.nodes[2].meta.mtime_nsec = 1_000_000_000),
        (Kind::Limit, "65,535", |tree| set(tree, 2, "user.long", &[0; 65_536])),
        (Kind::Limit, "256 KiB", |tree| {
            (0..5).for_each(|i| set(tree, 2, &format!("user.{i}"), &[i; 65_535]))
        }),
        (Kind::Invalid, "name", |tree| set(tree, 2, "", b"value")),
        (Kind::Invalid, "root", |tree| tree.nodes[0].content = Content::Fifo),
    ];
    for (kind, words, spoil) in cases {
        let mut tree = Tree::new();
        let dir = add(&mut tree, ROOT, b"dir", Content::Dir(BTreeMap::new()));
        add(&mut tree, dir, b"file", Content::Fifo);
        written(&tree);
        spoil(&mut tree);
        let error = layerstore::index::write(&tree, [0; 16], Vec::new()).unwrap_err();
        assert!(error.kind() == kind && error.message().contains(words), "{words}: {error}");
    }
}

/// The index has none; this is one with a table of prefixes put behind it.
pub fn with_long_prefix() -> Vec<u8> {
    let mut tree = Tree::new();
    let id = add(&mut tree, ROOT, b"file", Content::Inline([1].into()));
    set(&mut tree, id, "trusted.suffix", b"value");
    let mut bytes = written(&tree);
    let entry = bytes.windows(11).position(|window| window == b"suffixvalue").unwrap();
    assert_eq!(bytes[entry - 4..entry], [6, 4, 5, 0]);
    // The first of the table, whose length, base and infix these are.
    bytes[entry - 3] = 0x80;
    let table = u32::try_from(bytes.len() / 4).unwrap();
    bytes.extend([8, 0, 4]);
    bytes.extend(b"middle.");
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    // feature_incompat, xattr_prefix_count, xattr_prefix_start
    bytes[1024 + 80] |= 0x40;
    bytes[1024 + 91] = 1;
    bytes[1024 + 92..1024 + 96].copy_from_slice(&table.to_le_bytes());
    bytes
}

#[test]
fn a_prefix_may_be_the_images_own() {
    let index = Index::from_bytes(with_long_prefix()).unwrap();
    let file = index.lookup(index.root(), b"file").unwrap().unwrap();
    assert_eq!(index.xattr(file, b"trusted.middle.suffix").unwrap(), Some(&b"value"[..]));
    assert_eq!(index.xattr(file, b"trusted.suffix").unwrap(), None);
}

/// Chunks that are zeros are a hole; those that are somewhere are refused in words.
#[test]
fn chunks_are_holes() {
    let mut tree = Tree::new();
    let id = add(&mut tree, ROOT, b"file", Content::Object { id: ObjectId([1; 32]), size: 12_345 << 32 });
    let mut bytes = written(&tree);
    for name in [&b"overlay.metacopy"[..], b"overlay.redirect"] {
        let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
        // An attribute of the user's, that says nothing.
        bytes[at - 3] = 1;
    }
    let contents = |bytes: &[u8]| {
        let index = Index::from_bytes(bytes.to_vec()).unwrap();
        let file = index.lookup(index.root(), b"file").unwrap().unwrap();
        index.contents(file).map(|contents| format!("{contents:?}")).map_err(|error| error.to_string())
    };
    assert_eq!(contents(&bytes).unwrap(), format!("Hole {{ size: {} }}", 12_345_u64 << 32), "{id}");
    let chunks = bytes.windows(28).rposition(|window| window == [0xff; 28]).unwrap();
    bytes[chunks + 27] = 0;
    assert!(contents(&bytes).unwrap_err().contains("in chunks"));
}
