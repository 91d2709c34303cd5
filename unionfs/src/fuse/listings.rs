//! Open directories: what each has listed so far.

use std::collections::HashMap;

use crate::Union;
use crate::error::Result;
use crate::inode::NodeId;
use crate::ops::Entries;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};

/// Open directories by handle.
#[derive(Default)]
pub struct Listings {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Option<Arc<Entries>>>>,
}

impl Listings {
    /// A handle; nothing is listed yet.
    pub fn open(&self) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(handle, None);
        handle
    }

    /// Ends a handle.
    pub fn close(&self, handle: u64) {
        let entries = self.open.lock().remove(&handle);
        drop(entries);
    }

    /// The names as of the last time the start was read.
    ///
    /// # Errors
    /// What listing gave.
    pub fn entries(&self, union: &Union, node: NodeId, handle: u64, offset: u64) -> Result<Arc<Entries>> {
        if offset > 0 {
            if let Some(Some(entries)) = self.open.lock().get(&handle) {
                return Ok(entries.clone());
            }
        }
        let entries = Arc::new(union.list(node)?);
        if let Some(slot) = self.open.lock().get_mut(&handle) {
            *slot = Some(entries.clone());
        }
        Ok(entries)
    }
}
