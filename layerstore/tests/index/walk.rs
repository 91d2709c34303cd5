//! Everything an image index can be asked: whatever its bytes, each question is
//! answered or an error. The fuzzer of indexes asks the same.

use unionfs::image::{Contents, Index, Nid};

/// Asks an image everything, of at most so many entries: its tree is what it says,
/// and may have no end. Gives how many there were.
pub fn walk(index: &Index, limit: usize) -> usize {
    let mut nids = vec![index.root()];
    let mut next = 0;
    while let Some(&nid) = nids.get(next) {
        next += 1;
        ask(index, nid);
        for entry in index.entries(nid, 0).into_iter().flatten().flatten() {
            // Broken order hides names from halving; it must not lead elsewhere.
            drop(index.lookup(nid, entry.name));
            if nids.len() >= limit {
                return next;
            }
            nids.push(entry.nid);
        }
        drop(index.lookup(nid, b"no such name"));
    }
    next
}

/// Asks everything of what may be a file.
pub fn ask(index: &Index, nid: Nid) {
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
