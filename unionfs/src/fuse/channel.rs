//! The kernel's end of a session: `/dev/fuse`, as reads and writes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::abi::{self, OutHeader};
use crate::log;
use crate::sys::fuse;

/// A descriptor of the connection.
#[derive(Clone)]
pub struct Channel(Arc<OwnedFd>);

/// What reading the next request came to.
pub enum Received {
    /// A request of this many bytes.
    Request(usize),
    /// None yet.
    Nothing,
    /// There will be no more: the file system is unmounted.
    End,
}

impl Channel {
    /// Of an open `/dev/fuse`.
    pub fn new(device: Arc<OwnedFd>) -> Channel {
        Channel(device)
    }

    /// The descriptor.
    pub fn device(&self) -> &Arc<OwnedFd> {
        &self.0
    }

    /// One more descriptor of the same connection. Requests read from it are
    /// answered by it.
    ///
    /// # Errors
    /// What opening `/dev/fuse` again gave.
    pub fn clone_device(&self, blocking: fuse::Blocking) -> rustix::io::Result<Channel> {
        Ok(Channel(Arc::new(fuse::clone_device(self.0.as_fd(), blocking)?)))
    }

    /// Reads the next request.
    ///
    /// # Errors
    /// What broke the connection, if not an unmount.
    pub fn receive(&self, buffer: &mut [u8]) -> rustix::io::Result<Received> {
        match rustix::io::read(&self.0, buffer) {
            Ok(len) => Ok(Received::Request(len)),
            // ENOENT: the request was interrupted before it was read.
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => Ok(Received::Nothing),
            Err(Errno::NODEV | Errno::CONNABORTED) => Ok(Received::End),
            Err(errno) => Err(errno),
        }
    }

    /// Sends a reply: its header is put into the first bytes, its payload lies
    /// behind them.
    pub fn reply(&self, unique: u64, result: Result<usize, Errno>, message: &mut [u8]) {
        let (payload, error) = match result {
            Ok(len) => (len, 0),
            Err(errno) => (0, -errno.raw_os_error()),
        };
        let len = size_of::<OutHeader>() + payload;
        let header = OutHeader { len: len as u32, error, unique };
        let Some(message) = message.get_mut(..len) else { return };
        message[..size_of::<OutHeader>()].copy_from_slice(header.as_bytes());
        match rustix::io::write(&self.0, message) {
            // ENOENT: nobody waits any more. ENODEV: unmounted meanwhile.
            Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => {}
            Err(errno) => log::warn(format_args!("cannot reply to request {unique}: {errno}")),
        }
    }

    /// Makes the kernel ask for a node's attributes again.
    pub fn invalidate_inode(&self, node: u64) {
        // A negative offset: the data stays valid.
        let body = abi::InvalInodeOut { ino: node, off: -1, len: 0 };
        self.notify(abi::notify::INVAL_INODE, &[body.as_bytes()]);
    }

    fn notify(&self, code: i32, parts: &[&[u8]]) {
        let len = size_of::<OutHeader>() + parts.iter().map(|part| part.len()).sum::<usize>();
        let header = OutHeader { len: len as u32, error: code, unique: 0 };
        let message = [&[header.as_bytes()], parts].concat().concat();
        match rustix::io::write(&self.0, &message) {
            // What the kernel does not know it need not forget.
            Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => {}
            Err(errno) => log::warn(format_args!("cannot invalidate what the kernel keeps: {errno}")),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
