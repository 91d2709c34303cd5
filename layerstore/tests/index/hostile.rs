//! Images that are broken, by chance and by intent: an error, or something that
//! is there, but no panic and no end of time.

use std::sync::OnceLock;

use layerstore::object::ObjectId;
use layerstore::tree::{Content, Meta, Node, Tree};
use proptest::collection::vec;
use proptest::prelude::*;
use unionfs::image::{Index, Nid};

use crate::fixed::{mixed, put};
use crate::reading::written;
use crate::walk::{ask, walk};

fn valid() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| written(&mixed().tree))
}

#[test]
fn a_valid_image_is_walked_to_its_end() {
    assert!(walk(&Index::from_bytes(valid().to_vec()).unwrap(), 100_000) > 100);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits(flips in vec((any::<u32>(), 0..8_u8), 1..20)) {
        let mut bytes = valid().to_vec();
        for (at, bit) in flips {
            // Half of them where everything depends on it: the first inodes.
            let end = if at % 2 == 0 { bytes.len() } else { 4096 };
            bytes[at as usize / 2 % end] ^= 1 << bit;
        }
        if let Ok(index) = Index::from_bytes(bytes) {
            walk(&index, 1000);
        }
    }

    #[test]
    fn numbers_at_their_ends(words in vec((any::<u16>(), any::<bool>()), 1..20)) {
        let mut bytes = valid().to_vec();
        for (at, ones) in words {
            let at = 1024 + usize::from(at) * 2 % (bytes.len() - 1024 - 4);
            bytes[at..at + 4].fill(if ones { 0xff } else { 0 });
        }
        if let Ok(index) = Index::from_bytes(bytes) {
            walk(&index, 1000);
        }
    }

    #[test]
    fn cut_short(len in any::<u32>()) {
        let bytes = valid();
        let len = len as usize % bytes.len();
        if let Ok(index) = Index::from_bytes(bytes[..len].to_vec()) {
            walk(&index, 1000);
        }
    }

    #[test]
    fn anything_behind_a_superblock(bytes in vec(any::<u8>(), 0..9000)) {
        drop(Index::from_bytes(bytes.clone()));
        let mut image = valid()[..1152 + 64].to_vec();
        image.extend(bytes);
        if let Ok(index) = Index::from_bytes(image) {
            for nid in 0..100 {
                ask(&index, Nid(nid));
                drop(index.lookup(Nid(nid), b"name"));
                drop(index.entries(Nid(nid), nid).map(|entries| entries.count()));
            }
            walk(&index, 1000);
        }
    }
}

/// Where the pool is left, or cannot be, by what an image says.
#[test]
fn an_object_lies_in_the_pool() {
    let id = ObjectId::of(b"some contents");
    let mut tree = Tree::new();
    put(
        &mut tree,
        0,
        b"file",
        Node { meta: Meta::default(), xattrs: Default::default(), content: Content::Object { id, size: 13 } },
    );
    let bytes = written(&tree);
    let path = format!("/{}", id.path());
    let at = bytes.windows(path.len()).position(|window| window == path.as_bytes()).unwrap();
    let length = path.len();
    let changed = |start: &str| {
        let mut bytes = bytes.clone();
        bytes[at..at + start.len()].copy_from_slice(start.as_bytes());
        let index = Index::from_bytes(bytes).unwrap();
        let file = index.lookup(index.root(), b"file").unwrap().unwrap();
        index.contents(file).map(|contents| format!("{contents:?}")).map_err(|error| error.to_string())
    };
    assert!(changed("/").is_ok());
    for start in ["/../", "/./", "//", "a/b", "/a/../../", "/a\0"] {
        assert!(start.len() <= length);
        assert!(changed(start).unwrap_err().contains("redirected to no object"), "{start:?}");
    }
}

#[test]
fn what_is_no_image_is_said() {
    let says = |bytes: Vec<u8>| Index::from_bytes(bytes).map(drop).unwrap_err().to_string();
    assert!(says(Vec::new()).contains("not in the image"));
    assert!(says(vec![0; 4096]).contains("no erofs image"));
    // The features of incompatibility: compression.
    let mut bytes = valid().to_vec();
    bytes[1024 + 80] |= 0x2;
    assert!(says(bytes).contains("compression"));
}
