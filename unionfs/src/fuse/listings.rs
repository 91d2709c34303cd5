//! Directories being listed: the names of each as they were at its start.
//!
//! Kept by node, not by open directory: the kernel opens those by itself. A
//! listing goes when its end was read, or when too many others came after it;
//! it is made anew then, and positions, being hashes of names, still hold.

use std::collections::VecDeque;

use crate::Union;
use crate::error::Result;
use crate::inode::NodeId;
use crate::ops::Entries;
use crate::sync::{Arc, Mutex};

/// Listings kept at a time: as many as there may be readers at work.
const KEPT: usize = 64;

/// The listings being read, latest last.
#[derive(Default)]
pub struct Listings(Mutex<VecDeque<(NodeId, Arc<Entries>)>>);

impl Listings {
    /// The names as of the last time the start was read.
    ///
    /// # Errors
    /// What listing gave.
    pub fn entries(&self, union: &Union, node: NodeId, offset: u64) -> Result<Arc<Entries>> {
        if offset > 0 {
            if let Some(entries) = self.kept(node, offset) {
                return Ok(entries);
            }
        }
        let entries = Arc::new(union.list(node)?);
        let mut kept = self.0.lock();
        kept.retain(|(other, _)| *other != node);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((node, entries.clone()));
        Ok(entries)
    }

    fn kept(&self, node: NodeId, offset: u64) -> Option<Arc<Entries>> {
        let mut kept = self.0.lock();
        let at = kept.iter().position(|(other, _)| *other == node)?;
        let is_read = kept[at].1.from_offset(offset).next().is_none();
        if is_read { kept.remove(at).map(|(_, entries)| entries) } else { Some(kept[at].1.clone()) }
    }
}
