//! Image indexes: whatever the bytes, what is asked of them is answered or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unionfs::image::{Contents, Index, Nid};

/// A tree is what the image says: it may have no end.
const MOST: usize = 500;

fuzz_target!(|bytes: &[u8]| {
    let Ok(index) = Index::from_bytes(bytes.to_vec()) else { return };
    let mut nids = vec![index.root()];
    let mut next = 0;
    while let Some(&nid) = nids.get(next) {
        next += 1;
        ask(&index, nid);
        for entry in index.entries(nid, 0).into_iter().flatten().flatten().take(MOST) {
            drop(index.lookup(nid, entry.name));
            if nids.len() < MOST {
                nids.push(entry.nid);
            }
        }
        drop(index.lookup(nid, b"no such name"));
    }
    for nid in [1, 36, u64::MAX >> 5, u64::MAX] {
        ask(&index, Nid(nid));
    }
});

fn ask(index: &Index, nid: Nid) {
    drop((index.attr(nid), index.readlink(nid), index.xattr(nid, b"user.none")));
    drop((index.lookup(nid, b""), index.entries(nid, u64::MAX).map(Iterator::count)));
    for xattr in index.xattrs(nid).into_iter().flatten().flatten() {
        assert!(xattr.is_named(&xattr.name()));
    }
    match index.contents(nid) {
        Ok(Contents::Inline(data)) => {
            let mut buffer = [0; 100];
            assert_eq!(data.read_at(0, &mut buffer), data.len().min(100));
            assert_eq!(data.read_at(data.len() as u64, &mut buffer), 0);
        }
        Ok(Contents::Object { path, .. }) => {
            assert!(!path.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b"..")));
        }
        Ok(Contents::Hole { .. }) | Err(_) => {}
    }
}
