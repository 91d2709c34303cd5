//! Files that the kernel reads and writes by itself, once it is told which.
//!
//! All opens of a node are of one kind, as the kernel demands: with the first
//! one a file is registered, or not, and the others follow until the last is
//! released. Readers of a lower's file do not see the copy that is made when
//! somebody else writes to it. The copy then is a node of its own, which the
//! name leads to, and the kernel, told `ESTALE`, looks for it: as with kernel
//! overlayfs, who opened the file before goes on reading the lower.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::ensure::Need;
use super::{Writable, file_of};
use crate::error::Result;
use crate::inode::{Access, Body, Fact, File, FileState, Inode, Place};
use crate::stack::real::LayerId;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, RwLock};
use crate::sys::fuse::Backing;
use crate::{Union, log};

/// How an open file's data reaches its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Through the kernel's pages, those of earlier opens too.
    Cached,
    /// Through the kernel's pages, but none of those there are.
    CachedAnew,
    /// Past us: the kernel reads and writes the file of this number.
    Passthrough(i32),
}

/// Which files of the lowers are passed through in a union that has an upper. A
/// reader of such a file goes on seeing the lower's data when somebody writes to
/// it: a database would not survive that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedLowers {
    /// All.
    All,
    /// Programs, which nobody can write to while they run.
    Programs,
    /// None.
    None,
}

/// A kernel that takes files over.
pub struct Passthrough {
    device: Arc<OwnedFd>,
    lowers: PassedLowers,
    /// Whether files of the upper, and of the lowers, were found to be of a
    /// file system that the kernel takes none of.
    is_refused: [AtomicBool; 2],
}

impl Passthrough {
    /// By a connection that has it negotiated.
    pub fn new(device: Arc<OwnedFd>, lowers: PassedLowers) -> Passthrough {
        Passthrough { device, lowers, is_refused: Default::default() }
    }
}

impl Union {
    /// Lets a kernel take files over from now on.
    pub fn pass_through(&self, by: Passthrough) {
        if self.passthrough.set(by).is_err() {
            log::warn(format_args!("a union is served twice"));
        }
    }

    /// How the kernel is to treat an open that has just been counted.
    ///
    /// # Errors
    /// `EISDIR`.
    pub(super) fn opened(&self, inode: &Inode, access: Access) -> Result<Opened> {
        let mut state = file_of(inode)?.state.write();
        let Some(passthrough) = self.passthrough.get() else { return Ok(Opened::Cached) };
        if state.open.as_ref().is_some_and(|open| open.count == 1 && open.backing.is_none()) {
            let backing = self.register(passthrough, inode, &state);
            if let Some(open) = &mut state.open {
                open.backing = backing;
                open.is_lowers = open.data.is_lowers;
            }
        }
        match state.open.as_ref().and_then(|open| open.backing.as_ref()).map(Backing::id) {
            Some(id) => {
                if access == Access::Write {
                    state.note_stale();
                }
                Ok(Opened::Passthrough(id))
            }
            None if state.take_stale() => Ok(Opened::CachedAnew),
            None => Ok(Opened::Cached),
        }
    }

    /// Registers a file that is opened for the first time, if it may be.
    fn register(&self, passthrough: &Passthrough, inode: &Inode, state: &FileState) -> Option<Backing> {
        let open = state.open.as_ref()?;
        if state.data().is_some() {
            return None;
        }
        // The descriptor tells, not the place: a copy-up may just have been
        // published whose descriptor the opens do not share yet.
        let side = match (open.data.is_lowers, state.as_lower()) {
            (true, Some((dir, _))) if self.is_passed(passthrough, dir.layer, inode, state) => 1,
            (true, _) => return None,
            (false, _) => 0,
        };
        let is_refused = passthrough.is_refused.get(side)?;
        if is_refused.load(Ordering::Relaxed) {
            return None;
        }
        match Backing::open(&passthrough.device, open.data.fd.as_fd()) {
            Ok(backing) => Some(backing),
            Err(Errno::LOOP | Errno::PERM | Errno::OPNOTSUPP) => {
                is_refused.store(true, Ordering::Relaxed);
                None
            }
            // Out of memory or descriptors: this time through us.
            Err(_) => None,
        }
    }

    /// Whether a file of a lower is passed through. It must be held so that nobody
    /// can write to it, not even by being given it.
    fn is_passed(&self, passthrough: &Passthrough, layer: LayerId, inode: &Inode, file: &FileState) -> bool {
        let is_sealed = self.layers.get(layer).is_some_and(|layer| layer.is_sealed);
        is_sealed
            && match passthrough.lowers {
                PassedLowers::All => true,
                _ if self.upper.is_none() => true,
                PassedLowers::Programs => self.is_program(inode, file),
                PassedLowers::None => false,
            }
    }

    /// Puts a file in the upper to have its data changed, and gives the node it
    /// is from now on: another one, where the kernel reads the lower's by itself.
    ///
    /// # Errors
    /// What copying gave.
    pub(super) fn ensure_written(
        &self,
        upper: Writable<'_>,
        inode: &Arc<Inode>,
        need: Need,
    ) -> Result<Arc<Inode>> {
        self.ensure_upper(upper, inode, need)?;
        let file = file_of(inode)?;
        if !file.state.read().is_read_below() {
            return Ok(inode.clone());
        }
        let _lock = inode.lock.lock();
        let mut state = file.state.write();
        if let Place::Succeeded(successor) = state.place() {
            return Ok(successor.clone());
        }
        if !state.is_read_below() {
            return Ok(inode.clone());
        }
        let body = Body::File(File { state: RwLock::new(state.succeed(inode.id)) });
        let successor = self.table.succeed(inode, self.numbers.private(), body);
        state.set_place(Place::Succeeded(successor.clone()));
        self.changed.lock().push(inode.id);
        Ok(successor)
    }

    /// Whether a lower's file, just opened, may be executed. Its metadata says:
    /// the data may be of an object, whose mode is everybody's.
    fn is_program(&self, inode: &Inode, file: &FileState) -> bool {
        if inode.learnt.has(Fact::NoProgram) || inode.learnt.has(Fact::Program) {
            return inode.learnt.has(Fact::Program);
        }
        let asked = inode.learnt.now();
        let Ok(stat) = self.with_place(file, |file| Ok(file.stat()?)) else { return false };
        let is_program = stat.mode & 0o111 != 0;
        inode.learnt.note(asked, if is_program { Fact::Program } else { Fact::NoProgram });
        is_program
    }
}
