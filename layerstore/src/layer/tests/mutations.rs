//! Archives that chance has touched: an error or a round trip, never a panic.

use proptest::prelude::*;

use super::*;

/// An archive with something of everything.
fn valid() -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for text in ["d/", "d/file", "l -> d", "h = d/file", "d/.wh.x", "l/through", ".wh..wh..opq"] {
        let mut entry = entry(text);
        entry.meta.mtime_nsec = 5;
        entry.xattrs.insert(b"user.x"[..].into(), b"value"[..].into());
        writer.entry(&entry, &entry.path[..entry.size as usize]).unwrap();
    }
    let mut large = entry("large");
    large.size = 2000;
    writer.entry(&large, &[9; 2000][..]).unwrap();
    let mut bytes = writer.finish().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(extension(b'L', &[b'n'; 200]));
    bytes.extend(block(b'0', b"short", 0));
    bytes.extend(extension(
        b'x',
        &[pax_record("GNU.sparse.size", "5000"), pax_record("GNU.sparse.map", "0,3,4000,3")].concat(),
    ));
    bytes.extend(block(b'0', b"sparse", 6));
    bytes.extend([b's'; 6]);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

/// Gives headers their checksums, so that mutations come further than that.
fn repair(bytes: &mut [u8]) {
    for chunk in bytes.chunks_exact_mut(512) {
        if &chunk[257..262] == b"ustar" {
            let summed = sum(<[u8; 512]>::try_from(&chunk[..]).unwrap());
            chunk.copy_from_slice(&summed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_a_valid_archive(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in prop::option::of(any::<prop::sample::Index>()), repairs in prop::bool::weighted(0.8)) {
        let mut bytes = valid();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if repairs {
            repair(&mut bytes);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() * 3));
        }
        // `layer` and `entries` compare; that both agree on what is valid is checked here.
        let store = Store::new();
        let limits = Limits { contents: 1 << 22, ..Limits::default() };
        if store.unpack(&bytes, &limits).is_ok() {
            let entries = store.entries(&bytes).unwrap();
            apply(&mut Tree::new(), entries.into_iter().map(Ok), &limits).ok();
        }
    }

    #[test]
    fn of_nothing(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(bytes.is_empty() || Store::new().layer(&bytes).is_err());
    }
}

#[test]
fn the_valid_archive_is_valid() {
    let store = Store::new();
    assert_eq!(store.entries(&valid()).unwrap().len(), 10);
    store.merge(&[&valid()]).unwrap();
}
