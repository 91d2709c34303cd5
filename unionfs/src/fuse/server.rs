//! One request, one operation, one answer: the dispatch table. No decision
//! about files is made here, and no transport is known.

mod attributes;
mod data;
mod directories;
mod names;

use std::sync::Arc;

use rustix::io::Errno;

use super::channel::Channel;
use super::listings::Listings;
use super::reply::{Lifetime, Room};
use super::request::{Operation, Request};
use crate::error::{Error, Result};
use crate::ops::Caller;
use crate::sys::creds;
use crate::{Union, log};

/// Whether opens are answered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// Each, and each is released.
    Answered,
    /// None: the kernel opens files by itself, the node is the file.
    Spared,
}

/// A union as a server of requests; shared by all threads.
pub struct Server {
    union: Arc<Union>,
    listings: Listings,
    lifetime: Lifetime,
    opens: Opens,
    channel: Channel,
}

/// What the kernel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Success, with this many bytes of payload.
    Done(usize),
    /// An error.
    Failed(Errno),
    /// Nothing: the request has no reply.
    Silence,
}

impl Server {
    /// Serves a union. Notifications go out by `channel`.
    pub fn new(union: Arc<Union>, opens: Opens, channel: Channel) -> Server {
        let lifetime = Lifetime::new(union.config().timeout);
        Server { union, listings: Listings::default(), lifetime, opens, channel }
    }

    /// Readies the calling thread to make files as the callers of requests.
    pub fn ready_thread(&self) {
        if let Err(errno) = creds::keep_capabilities() {
            log::warn(format_args!("cannot act as callers: {errno}"));
        }
    }

    /// Does what a request asks; the reply's payload is put into `room`.
    pub fn handle(&self, request: &Request<'_>, mut room: Room<'_>) -> Answer {
        self.union.stats().request(request.header.opcode as usize);
        match self.dispatch(request, &mut room) {
            Ok(Reply::Payload) => Answer::Done(room.used()),
            Ok(Reply::None) => Answer::Silence,
            Err(error) => {
                if let Some(cause) = error.cause() {
                    log::warn(format_args!("{cause}"));
                }
                Answer::Failed(error.errno())
            }
        }
    }

    fn dispatch(&self, request: &Request<'_>, room: &mut Room<'_>) -> Result<Reply> {
        let node = request.header.nodeid;
        let caller = |umask| Caller { uid: request.header.uid, gid: request.header.gid, umask };
        match request.operation {
            Operation::Lookup { name } => self.lookup(node, name, room)?,
            Operation::Forget { count } => {
                self.union.forget(node, count);
                return Ok(Reply::None);
            }
            Operation::BatchForget(forgets) => {
                forgets.iter().for_each(|one| self.union.forget(one.nodeid, one.nlookup));
                return Ok(Reply::None);
            }
            Operation::Getattr => self.getattr(node, room)?,
            Operation::Statx => self.statx(node, room)?,
            Operation::Setattr(set) => self.setattr(node, &set, caller(0), room)?,
            Operation::Readlink => room.put_bytes(&self.union.readlink(node)?)?,
            Operation::Symlink { name, target } => self.symlink(node, name, target, caller(0), room)?,
            Operation::Mknod { name, node: made } => {
                self.mknod(node, name, &made, caller(made.umask), room)?
            }
            Operation::Mkdir { name, dir } => self.mkdir(node, name, &dir, caller(dir.umask), room)?,
            Operation::Unlink { name } => self.unlink(node, name)?,
            Operation::Rmdir { name } => self.rmdir(node, name)?,
            Operation::Rename { name, new_parent, new_name, flags } => {
                self.rename((node, name), (new_parent, new_name), flags)?;
            }
            Operation::Link { node: linked, name } => self.link(linked, node, name, room)?,
            Operation::Open(open) => self.open(node, &open, caller(0), room)?,
            Operation::Create { name, file } => self.create(node, name, &file, caller(file.umask), room)?,
            Operation::Tmpfile { file } => self.tmpfile(node, &file, caller(file.umask), room)?,
            Operation::Read(at) => self.read(node, &at, room)?,
            Operation::Write { at, data } => self.write(node, &at, data, caller(0), room)?,
            Operation::Release => self.union.release(node),
            // Nothing is kept back; the kernel does not ask again.
            Operation::Flush => return Err(Errno::NOSYS.into()),
            Operation::Fsync { data_only } => self.fsync(node, data_only)?,
            // The kernel opens directories by itself and keeps their listings.
            Operation::Opendir => return Err(Errno::NOSYS.into()),
            Operation::Readdir(at) => self.readdir(node, &at, room)?,
            Operation::Readdirplus(at) => self.readdirplus(node, &at, room)?,
            Operation::Releasedir => {}
            Operation::Fsyncdir => self.fsync(node, false)?,
            Operation::Statfs => self.statfs(room)?,
            Operation::Syncfs => self.union.syncfs()?,
            Operation::Setxattr { name, value, flags, kill_sgid } => {
                self.setxattr(node, name, value, flags, kill_sgid)?;
            }
            Operation::Getxattr { name, size } => self.getxattr(node, name, size, room)?,
            Operation::Listxattr { size } => self.listxattr(node, size, caller(0), room)?,
            Operation::Removexattr { name } => self.told(self.union.removexattr(node, name))?,
            Operation::Fallocate(range) => self.fallocate(node, &range, caller(0))?,
            Operation::Lseek(from) => self.lseek(node, &from, room)?,
            Operation::CopyFileRange(copy) => {
                let size = self.copy_file_range(node, &copy, caller(0))? as u32;
                room.put(&super::abi::WriteOut { size, padding: 0 })?;
            }
            Operation::CopyFileRange64(copy) => {
                let bytes_copied = self.copy_file_range(node, &copy, caller(0))? as u64;
                room.put(&super::abi::CopyOut64 { bytes_copied })?;
            }
            Operation::Ioctl => return Err(Errno::NOTTY.into()),
            Operation::Destroy => {}
            Operation::Init(_) => return Err(Errno::IO.into()),
            Operation::Unknown => return Err(Errno::NOSYS.into()),
        }
        Ok(Reply::Payload)
    }

    /// Makes the kernel ask again for what an operation changed on its way,
    /// before the operation is answered.
    fn told<T>(&self, result: Result<T>) -> Result<T> {
        for node in self.union.take_changed() {
            self.channel.invalidate_inode(node);
        }
        result
    }

    /// A node's name leads to it from now on, as the kernel is told.
    fn put_entry(&self, entry: Result<crate::ops::Entry>, room: &mut Room<'_>) -> Result<()> {
        room.put(&self.lifetime.entry(&entry?))
    }
}

/// Whether a request is replied to.
enum Reply {
    /// By what is in the room.
    Payload,
    /// It is not.
    None,
}

/// The errors that mean "not there" and nothing else.
fn is_absence(error: &Error) -> bool {
    error.errno() == Errno::NOENT && error.cause().is_none()
}
