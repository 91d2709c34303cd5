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

#[cfg(test)]
pub mod tests {
    use std::ffi::OsStr;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::config::{Config, UpperDirs};
    use crate::fuse::abi::{self, InHeader};
    use crate::fuse::request::SetxattrForm;
    use crate::sys::scratch::Scratch;

    /// A server of a small union, on nothing.
    pub fn server(scratch: &Scratch) -> Server {
        let dir = |name: &str| {
            let path = scratch.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let lower = dir("lower");
        std::fs::create_dir_all(lower.join("d")).unwrap();
        std::fs::write(lower.join("a"), "a lower file").unwrap();
        std::fs::write(lower.join("d/b"), "another").unwrap();
        let upper = UpperDirs { upper: dir("upper"), work: dir("work") };
        let config = Config { lowers: vec![lower], upper: Some(upper), ..Config::default() };
        let union = Arc::new(Union::open(config).unwrap());
        let null: OwnedFd = std::fs::File::options().write(true).open("/dev/null").unwrap().into();
        Server::new(union, Opens::Answered, Channel::new(Arc::new(null)))
    }

    /// Bytes such as bodies consist of: names, small numbers, anything.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let name =
            proptest::sample::select(vec![&b"a\0"[..], b"d\0", b"b\0", b"new\0", b".wh.a\0", b"user.x\0"]);
        let number = (0u64..9).prop_map(|number| number.to_ne_bytes().to_vec());
        let part = prop_oneof![
            3 => number,
            3 => name.prop_map(<[u8]>::to_vec),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_request_makes_it_panic(requests in proptest::collection::vec((1u32..60, 0u64..6, body()), 1..60)) {
            let scratch = Scratch::new("server");
            let server = server(&scratch);
            let nodes: Vec<u64> = [b"a", b"d"]
                .into_iter()
                .filter_map(|name| Some(server.union.lookup(1, OsStr::from_bytes(name)).ok()?.id))
                .collect();
            let mut room = vec![0; 1 << 16];
            for (opcode, node, body) in requests {
                let nodeid = nodes.get(node as usize).copied().unwrap_or(node);
                let header = InHeader { opcode, nodeid, unique: 1, uid: 0, gid: 0, ..Default::default() };
                let bytes = [header.as_bytes(), &body].concat();
                let Ok(request) = Request::whole(&bytes, SetxattrForm::Long) else { continue };
                // Space on a disk is all that it could use up.
                if opcode == abi::FALLOCATE {
                    continue;
                }
                if let Answer::Done(len) = server.handle(&request, Room::new(&mut room)) {
                    prop_assert!(len <= room.len());
                }
            }
            prop_assert_eq!(std::fs::read(scratch.path().join("lower/a")).unwrap(), b"a lower file");
        }
    }
}
