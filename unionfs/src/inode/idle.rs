//! Files kept open between requests, for a kernel that does not say when it
//! opens and closes them. A bounded number of them, oldest first out.

use std::collections::VecDeque;

use super::Inode;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, Weak};

/// The files kept open, in the order they were opened in.
#[derive(Default)]
pub struct IdleFiles {
    limit: AtomicUsize,
    queue: Mutex<VecDeque<Weak<Inode>>>,
}

impl IdleFiles {
    /// Keeps at most `limit` files from now on; 0, the default, keeps none.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether files that nobody has open are kept open.
    pub fn is_kept(&self) -> bool {
        self.limit.load(Ordering::Relaxed) > 0
    }

    /// Notes that a file is kept open, and closes what is one too many. No file's
    /// state is locked by the caller.
    pub fn note(&self, inode: &Arc<Inode>) {
        let limit = self.limit.load(Ordering::Relaxed);
        let mut closing = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.push_back(Arc::downgrade(inode));
            while queue.len() > limit {
                closing.extend(queue.pop_front());
            }
        }
        for oldest in closing {
            if let Some(file) = oldest.upgrade().as_ref().and_then(|oldest| oldest.file()) {
                file.close_if_idle();
            }
        }
    }
}
