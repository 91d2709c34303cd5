//! Layers: a tar stream that is taken comes back bit for bit, and is applied to an
//! image whose index can be written, if it can be applied at all, and read.

#![no_main]

use std::io::{Read, Seek};
use std::path::PathBuf;
use std::sync::OnceLock;

use layerstore::error::Kind;
use layerstore::layer::Limits;
use layerstore::layer::apply::apply;
use layerstore::layer::framing::Framing;
use layerstore::layer::unpack::unpack;
use layerstore::pool::Pool;
use layerstore::tree::{ROOT, Tree};
use libfuzzer_sys::fuzz_target;
use unionfs::image::Index;

/// Small, so that limits are met.
fn limits() -> Limits {
    Limits { contents: 1 << 20, entries: 1000, pax: 4096, xattrs: 4096, segments: 100, ..Limits::default() }
}

/// In memory, and emptied at each start.
fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let path = PathBuf::from("/dev/shm/runionfs-fuzz-layer");
        std::fs::remove_dir_all(&path).ok();
        Pool::open(path).unwrap()
    })
}

fn framing() -> std::fs::File {
    let path = pool().path().join("framing");
    std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
}

/// Gives headers their checksums: whether these are looked at is easily tested, and
/// chance does not get past them.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let (limits, bytes) = (limits(), &*with_checksums(bytes));
    let Ok((unpacked, mut file)) = unpack(bytes, pool(), &limits, framing()) else { return };
    file.rewind().unwrap();
    let framing = Framing::open(file).unwrap();
    assert_eq!((unpacked.summary, &*unpacked.objects), (framing.summary(), framing.objects()));
    let mut back = Vec::new();
    framing.stream(pool()).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == bytes, "the stream comes back as another one");

    for object in framing.objects() {
        pool().remove(&object.id).unwrap();
    }

    let mut tree = Tree::new();
    for _ in 0..2 {
        if apply(&mut tree, framing.entries(&limits).unwrap(), &limits).is_err() {
            return;
        }
    }
    let mut index = Vec::new();
    match layerstore::index::write(&tree, [7; 16], &mut index) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Limit) => return,
        Err(error) => panic!("{error}"),
    }
    let index = Index::from_bytes(index).unwrap();
    let there = index.entries(index.root(), 0).unwrap();
    let names: Vec<Vec<u8>> = there.map(|entry| entry.unwrap().name.to_vec()).collect();
    let expected = tree.entries(ROOT).filter(|(name, _)| names.iter().any(|there| there == name));
    assert_eq!(expected.count(), tree.entries(ROOT).count(), "names are lost");
});
