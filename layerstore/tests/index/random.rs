//! Random trees are read as they were written.

use std::collections::BTreeMap;

use layerstore::object::ObjectId;
use layerstore::tree::{Content, Device, Meta, Node, Tree};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use unionfs::image::Index;

use crate::reading::{ordered, tree_of, written};

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(tree in trees()) {
        let bytes = written(&tree);
        prop_assert!(bytes == written(&tree), "the same tree in other bytes");
        prop_assert_eq!(tree_of(&Index::from_bytes(bytes).unwrap()), ordered(&tree));
    }
}

/// A few dozen files, or two thousand without contents, in directories in directories.
pub fn trees() -> impl Strategy<Value = Tree> {
    let entries = prop_oneof![4 => vec((any::<u16>(), names(), nodes()), 0..40), 1 => vec((Just(0), names(), empty()), 0..2000)];
    (metas(), xattrs(), entries).prop_map(|(meta, xattrs, entries)| {
        let mut tree = Tree { nodes: vec![Node { meta, xattrs, content: Content::Dir(BTreeMap::new()) }] };
        let mut dirs = vec![0];
        for (place, name, node) in entries {
            let place = usize::from(place);
            let dir = dirs[place % dirs.len()];
            // Every eighth is a further name of an earlier file, or of none.
            let link = place / dirs.len() % tree.nodes.len();
            let is_link = place % 8 == 7 && !matches!(tree.nodes[link].content, Content::Dir(_));
            let id = if is_link { link } else { tree.nodes.len() };
            if !is_link {
                if let Content::Dir(_) = node.content {
                    dirs.push(id);
                }
                tree.nodes.push(node);
            }
            let Content::Dir(entries) = &mut tree.nodes[dir].content else { unreachable!() };
            entries.entry(name).or_insert(id as u32);
        }
        tree
    })
}

fn names() -> impl Strategy<Value = Box<[u8]>> {
    let byte = any::<u8>().prop_filter("a byte of names", |byte| !matches!(byte, 0 | b'/'));
    let name = prop_oneof![vec(byte.clone(), 1..12), vec(byte, 1..=255)];
    name.prop_filter("a name", |name| !matches!(&name[..], b"." | b"..")).prop_map(Box::from)
}

fn nodes() -> impl Strategy<Value = Node> {
    let bytes = prop_oneof![
        vec(any::<u8>(), 0..100),
        (0..10_000_usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len])
    ];
    let devices = (0..=0xfff_u32, 0..=0xf_ffff_u32).prop_map(|(major, minor)| Device { major, minor });
    let content = prop_oneof![
        3 => Just(Content::Dir(BTreeMap::new())),
        3 => bytes.prop_map(|bytes| Content::Inline(bytes.into())),
        3 => (0..4_u8, any::<u64>()).prop_map(|(id, size)| Content::Object { id: ObjectId([id; 32]), size: size % (1 << 53) }),
        1 => vec(1..=255_u8, 1..=4095).prop_map(|target| Content::Symlink(target.into())),
        1 => vec(1..=255_u8, 1..=40).prop_map(|target| Content::Symlink(target.into())),
        1 => devices.clone().prop_map(Content::Char),
        1 => devices.prop_map(Content::Block),
        1 => Just(Content::Char(Device::default())),
        1 => Just(Content::Fifo),
        1 => Just(Content::Socket),
    ];
    (metas(), xattrs(), content).prop_map(|(meta, xattrs, content)| Node { meta, xattrs, content })
}

fn empty() -> impl Strategy<Value = Node> {
    metas().prop_map(|meta| Node { meta, xattrs: BTreeMap::new(), content: Content::Fifo })
}

fn metas() -> impl Strategy<Value = Meta> {
    let times = prop_oneof![Just((1_700_000_000, 5)), (any::<i64>(), 0..1_000_000_000_u32)];
    let owner = prop_oneof![Just(0), any::<u32>()];
    (0..=0o7777_u16, owner.clone(), owner, times).prop_map(|(mode, uid, gid, (mtime, mtime_nsec))| Meta {
        mode,
        uid,
        gid,
        mtime,
        mtime_nsec,
    })
}

fn xattrs() -> impl Strategy<Value = BTreeMap<Box<[u8]>, Box<[u8]>>> {
    let name = prop_oneof![
        Just(b"user.a".to_vec()),
        Just(b"system.posix_acl_access".to_vec()),
        Just(b"system.other".to_vec()),
        Just(b"trusted.overlay.origin".to_vec()),
        Just(b"trusted.overlay.overlay.origin".to_vec()),
        Just(b"trusted.overlay.redirect".to_vec()),
        vec(1..=255_u8, 1..=255).prop_map(|rest| [b"security.", &rest[..]].concat()),
    ];
    let value = prop_oneof![vec(0..3_u8, 0..2), vec(any::<u8>(), 0..300)];
    btree_map(name.prop_map(Box::from), value.prop_map(Box::from), 0..4)
}
