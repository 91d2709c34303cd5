//! Image indexes: whatever the bytes, what is asked of them is answered or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unionfs::image::{Index, Nid};

#[path = "../../../layerstore/tests/index/walk.rs"]
mod walk;

/// So many entries are looked at.
const MOST: usize = 500;

fuzz_target!(|bytes: &[u8]| {
    let Ok(index) = Index::from_bytes(bytes.to_vec()) else { return };
    walk::walk(&index, MOST);
    for nid in [1, 36, u64::MAX >> 5, u64::MAX] {
        walk::ask(&index, Nid(nid));
    }
});
