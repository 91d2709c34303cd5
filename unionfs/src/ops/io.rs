//! File data.
//!
//! All opens of a node share one descriptor, at the best access any of them
//! asked for: transfers carry their own offset, and permission was checked when
//! the file was opened. When a lower file is copied up, the descriptor is
//! exchanged, and every open sees what is written from then on.

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::ensure::Need;
use super::{Caller, Opened, file_of};
use crate::Union;
use crate::error::Result;
use crate::inode::{Access, Data, Inode, NodeId, Open};
use crate::sync::Arc;
use std::os::fd::{AsFd, OwnedFd};

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFor {
    /// Reading, or executing.
    Reading,
    /// Writing, and perhaps reading.
    Writing,
    /// Writing, having thrown away what was in it, and perhaps set-id bits.
    Replacing(SetId),
}

/// What `SEEK_DATA` and `SEEK_HOLE` look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next data at or after an offset.
    Data,
    /// The next hole.
    Hole,
}

impl Union {
    /// Opens a regular file; each call is answered by one [`Union::release`].
    ///
    /// # Errors
    /// `EROFS`; `ESTALE` where another node has taken this one's place, which the
    /// name leads to now; what copying up or opening gave.
    pub fn open_file(&self, id: NodeId, purpose: OpenFor, caller: Caller) -> Result<Opened> {
        let inode = self.known(id)?;
        let (access, need) = match purpose {
            OpenFor::Reading => (Access::Read, None),
            OpenFor::Writing => (Access::Write, Some(Need::Data)),
            OpenFor::Replacing(_) => (Access::Write, Some(Need::Empty)),
        };
        if let Some(need) = need.filter(|_| !inode.is_succeeded()) {
            self.ensure_written(self.writable()?, &inode, need)?;
        }
        if inode.is_succeeded() {
            // The name leads to the other node: the kernel looks again.
            return Err(Errno::STALE.into());
        }
        let data = self.data_to_share(&inode, access, self.counted())?;
        if let OpenFor::Replacing(set_id) = purpose {
            let truncated = rustix::fs::ftruncate(&data.fd, 0).map_err(Into::into);
            if let Err(error) =
                truncated.and_then(|()| self.drop_set_id(&inode, data.fd.as_fd(), set_id, caller))
            {
                self.release(id);
                return Err(error);
            }
        }
        self.opened(&inode, access)
    }

    /// How an open counts: not at all where opens are spared, as the kernel does not
    /// tell there when one ends.
    fn counted(&self) -> Count {
        if self.idle.is_kept() { Count::AsMany } else { Count::OneMore }
    }

    /// Makes the descriptor of a file just made the one its opens share.
    pub(super) fn share_new(&self, inode: &Arc<Inode>, fd: OwnedFd) -> Result<()> {
        let count = self.counted();
        let one = u64::from(count == Count::OneMore);
        let mut state = file_of(inode)?.state.write();
        if let Some(open) = &mut state.open {
            open.count += one;
        } else {
            let data = Arc::new(Data { fd, access: Access::Write, is_lowers: false });
            state.open = Some(Open::new(one, data));
        }
        drop(state);
        if count == Count::AsMany {
            self.idle.note(inode);
        }
        Ok(())
    }

    /// Ends one open.
    pub fn release(&self, id: NodeId) {
        let Ok(inode) = self.known(id) else { return };
        let Some(file) = inode.file() else { return };
        let mut state = file.state.write();
        let Some(open) = &mut state.open else { return };
        open.count = open.count.saturating_sub(1);
        drop(state);
        file.close_if_idle();
    }

    /// The shared descriptor, or one for this time only if the file is not open.
    ///
    /// # Errors
    /// What opening gave.
    pub(super) fn data(&self, inode: &Arc<Inode>, access: Access) -> Result<Arc<Data>> {
        if let Some(open) = &file_of(inode)?.state.read().open {
            if open.data.access >= access {
                return Ok(open.data.clone());
            }
        }
        self.data_to_share(inode, access, Count::AsMany)
    }

    /// Opens the file's data at least for `access` and shares it with the other
    /// opens, of which there may be one more.
    fn data_to_share(&self, inode: &Arc<Inode>, access: Access, count: Count) -> Result<Arc<Data>> {
        let file = file_of(inode)?;
        loop {
            if let Some(data) = share(&mut file.state.write().open, access, count) {
                return Ok(data);
            }
            // Opened without the lock; whoever comes second uses the first's.
            let in_upper = {
                let state = file.state.read();
                !state.is_lower() && state.data().is_none()
            };
            let fd = self.open_data(inode, access)?;
            let mut state = file.state.write();
            if in_upper != (!state.is_lower() && state.data().is_none()) {
                continue; // Copied up meanwhile: this is the old file's.
            }
            let data = Arc::new(Data { fd, access, is_lowers: !in_upper });
            match (&mut state.open, count) {
                (Some(open), _) if open.data.access < access => open.data = data,
                (Some(_), _) => {}
                (None, Count::OneMore) => {
                    state.open = Some(Open::new(1, data.clone()));
                    return Ok(data);
                }
                (None, Count::AsMany) if self.idle.is_kept() => {
                    state.open = Some(Open::new(0, data.clone()));
                    drop(state);
                    self.idle.note(inode);
                    return Ok(data);
                }
                (None, Count::AsMany) => return Ok(data),
            }
        }
    }

    /// Reads at an offset into `buffer`; less than its length at the end only.
    ///
    /// # Errors
    /// What the layer gave.
    pub fn read(&self, id: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let inode = self.inode(id)?;
        let data = self.data(&inode, Access::Read)?;
        let mut done = 0;
        while done < buffer.len() {
            let rest = buffer.get_mut(done..).unwrap_or_default();
            match rustix::io::pread(&data.fd, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(done)
    }

    /// Writes at an offset.
    ///
    /// # Errors
    /// What the upper gave, if nothing was written.
    pub fn write(
        &self,
        id: NodeId,
        offset: u64,
        bytes: &[u8],
        privilege: SetId,
        caller: Caller,
    ) -> Result<usize> {
        let inode = self.inode(id)?;
        let data = self.writable_data(&inode)?;
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pwrite(&data.fd, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(errno) if done == 0 => return Err(errno.into()),
                Err(_) => break,
            }
        }
        self.drop_set_id(&inode, data.fd.as_fd(), privilege, caller)?;
        Ok(done)
    }

    /// The shared descriptor for writing; the file is in the upper.
    fn writable_data(&self, inode: &Arc<Inode>) -> Result<Arc<Data>> {
        let inode = self.ensure_written(self.writable()?, inode, Need::Data)?;
        self.data(&inode, Access::Write)
    }

    /// Allocates, punches, zeroes, collapses or inserts a range.
    ///
    /// # Errors
    /// What the upper gave; `EOPNOTSUPP` for modes it has not.
    pub fn fallocate(
        &self,
        id: NodeId,
        mode: FallocateFlags,
        offset: u64,
        len: u64,
        caller: Caller,
    ) -> Result<()> {
        let inode = self.inode(id)?;
        let data = self.writable_data(&inode)?;
        rustix::fs::fallocate(&data.fd, mode, offset, len)?;
        self.drop_set_id(&inode, data.fd.as_fd(), SetId::ByCaller, caller)
    }

    /// Finds data or a hole.
    ///
    /// # Errors
    /// `ENXIO` past the end, or what the layer gave.
    pub fn seek(&self, id: NodeId, offset: u64, what: Seek) -> Result<u64> {
        let inode = self.inode(id)?;
        let data = self.data(&inode, Access::Read)?;
        let from = match what {
            Seek::Data => SeekFrom::Data(offset),
            Seek::Hole => SeekFrom::Hole(offset),
        };
        // The descriptor's own offset is used by nothing else.
        Ok(rustix::fs::seek(&data.fd, from)?)
    }

    /// Copies between files without the data leaving the kernel.
    ///
    /// # Errors
    /// What the file systems gave, `EXDEV` included: the caller then copies.
    pub fn copy_file_range(
        &self,
        from: (NodeId, u64),
        to: (NodeId, u64),
        len: usize,
        caller: Caller,
    ) -> Result<usize> {
        let (source, target) = (self.inode(from.0)?, self.inode(to.0)?);
        let (target_node, target) = (&target, self.writable_data(&target)?);
        let source = self.data(&source, Access::Read)?;
        let (mut at, mut to_at) = (from.1, to.1);
        let copied =
            rustix::fs::copy_file_range(&source.fd, Some(&mut at), &target.fd, Some(&mut to_at), len)?;
        self.drop_set_id(target_node, target.fd.as_fd(), SetId::ByCaller, caller)?;
        Ok(copied)
    }

    /// Puts a file's data, and with `FullSync` its metadata, on disk.
    ///
    /// # Errors
    /// What the upper gave. A volatile union and a lower file have nothing to do.
    pub fn fsync(&self, id: NodeId, what: Sync) -> Result<()> {
        let Some(upper) = self.upper.as_ref().filter(|upper| upper.is_durable()) else { return Ok(()) };
        let inode = self.inode(id)?;
        let Some(file) = inode.file() else {
            return self.fsync_dir(&inode);
        };
        if file.state.read().is_lower() {
            return Ok(());
        }
        if file.state.read().data().is_some() {
            // A metacopy: its metadata is the upper's.
            return upper.sync();
        }
        let data = self.data(&inode, Access::Read)?;
        match what {
            Sync::Data => rustix::fs::fdatasync(&data.fd)?,
            Sync::Full => rustix::fs::fsync(&data.fd)?,
        }
        Ok(())
    }

    /// Puts everything written so far on the upper's disk.
    ///
    /// # Errors
    /// What the upper gave. A volatile union has nothing to do.
    pub fn syncfs(&self) -> Result<()> {
        match self.upper.as_ref().filter(|upper| upper.is_durable()) {
            Some(upper) => upper.sync(),
            None => Ok(()),
        }
    }

    fn fsync_dir(&self, inode: &Inode) -> Result<()> {
        let Ok(dir) = self.upper_fd(inode) else { return Ok(()) };
        rustix::fs::fsync(crate::sys::at::open_listing(dir.as_fd())?)?;
        Ok(())
    }
}

/// What fsync puts on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Data, and the metadata needed to read it.
    Data,
    /// Everything.
    Full,
}

/// Whether a write takes the set-id bits away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetId {
    /// Unless the caller is root.
    #[default]
    ByCaller,
    /// They stay: the kernel says that the writer may.
    Keep,
    /// They go.
    Drop,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    OneMore,
    AsMany,
}

/// Joins the opens there are, if their descriptor will do.
fn share(open: &mut Option<Box<Open>>, access: Access, count: Count) -> Option<Arc<Data>> {
    let open = open.as_mut().filter(|open| open.data.access >= access)?;
    if count == Count::OneMore {
        open.count += 1;
    }
    Some(open.data.clone())
}
