//! FUSE requests through io_uring, one entry at a time: memory that the kernel
//! puts a request into and takes its reply from, and the ring whose commands
//! hand it to and fro.
//!
//! An [`Entry`] is the kernel's from [`Entry::next`] until that returns, and the
//! caller's until it is called again: nobody ever reads what the other writes.
//! What a request means is not known here.
//!
//! Layout and commands: `linux/fuse.h` (`struct fuse_uring_req_header`,
//! `struct fuse_uring_cmd_req`) and `Documentation/filesystems/fuse/
//! fuse-io-uring.rst`.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::io::Errno;

use memory::Memory;

/// `in_out`: the header of a request, then that of its reply.
const HEADER: Range<usize> = 0..128;
/// `op_in`: a request's fixed structure.
const FIXED: Range<usize> = 128..256;
/// `ring_ent_in_out.commit_id`: the request's name in the command that ends it.
const COMMIT_ID: Range<usize> = 264..272;
/// `ring_ent_in_out.payload_sz`: how much of the payload counts.
const PAYLOAD_LEN: Range<usize> = 272..276;
/// The size of all that, `struct fuse_uring_req_header`.
const HEADERS: usize = 288;
/// Where what REGISTER reads lies: two `struct iovec`, of the headers and of the
/// payload.
const PARTS: Range<usize> = 1024..1056;
/// Where the payload begins: on a page of its own.
const PAYLOAD: usize = 4096;

/// `FUSE_IO_URING_CMD_REGISTER`: gives the kernel an entry's memory.
const REGISTER: u32 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`: gives a reply, waits for a request.
const COMMIT_AND_FETCH: u32 = 2;

/// One entry of a queue, with a ring of its own.
pub struct Entry {
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    memory: Memory,
    device: Arc<OwnedFd>,
    queue: u16,
    state: State,
}

/// Whose the memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Ours: the kernel has not heard of it.
    New,
    /// The kernel's.
    Waiting,
    /// Ours: a request to reply to.
    Delivered,
    /// Ours for good.
    Ended,
}

/// A request in an entry.
pub struct Delivered<'e> {
    /// The request's header, at its front.
    pub header: &'e mut [u8],
    /// Its fixed structure, at the front.
    pub fixed: &'e mut [u8],
    /// All of the payload's memory.
    pub payload: &'e mut [u8],
    /// How much of the payload the request has.
    pub len: usize,
}

impl Entry {
    /// An entry of the queue of a processor, unknown to the kernel as yet.
    /// Its payload has room for `payload` bytes.
    ///
    /// # Errors
    /// `ENOSYS` or `EPERM` where there is no io_uring for this process; what
    /// making a ring or mapping memory gave.
    pub fn new(device: Arc<OwnedFd>, queue: u16, payload: usize) -> io::Result<Entry> {
        let ring = IoUring::builder()
            // The thread that waits is the only one that submits, and it is
            // known once it runs; see `next`.
            .setup_single_issuer()
            .setup_r_disabled()
            // A request is fetched when the thread waits, never by a signal.
            .setup_defer_taskrun()
            .dontfork()
            .build(1)?;
        let memory = Memory::new(PAYLOAD + payload)?;
        Ok(Entry { ring, memory, device, queue, state: State::New })
    }

    /// Gives the reply to the request delivered before, if one was, and waits
    /// for the next. `None` when there will be none: the file system is
    /// unmounted. To be called by one thread, always the same.
    ///
    /// # Errors
    /// The kernel did not take the entry or its reply; it is of no use then.
    pub fn next(&mut self) -> io::Result<Option<Delivered<'_>>> {
        match self.state {
            State::New => {
                self.ring.submitter().register_enable_rings()?;
                self.describe();
                self.submit(REGISTER, 0)?;
            }
            State::Delivered => {
                let id = u64::from_ne_bytes(self.memory.read(COMMIT_ID));
                self.submit(COMMIT_AND_FETCH, id)?;
            }
            // After an error; waiting is all that is left.
            State::Waiting => {}
            State::Ended => return Ok(None),
        }
        let result = self.wait()?;
        if result >= 0 {
            self.state = State::Delivered;
            return Ok(Some(self.delivered()));
        }
        self.state = State::Ended;
        match Errno::from_raw_os_error(-result) {
            Errno::NOTCONN | Errno::CONNABORTED | Errno::CANCELED | Errno::NODEV => Ok(None),
            errno => Err(errno.into()),
        }
    }

    /// Says how much of the payload the reply has.
    pub fn set_len(&mut self, len: usize) {
        if self.state == State::Delivered {
            self.memory.write(PAYLOAD_LEN, (len as u32).to_ne_bytes());
        }
    }

    /// Puts down for the kernel where the parts of the memory are.
    fn describe(&mut self) {
        let base = self.memory.address();
        let parts = [base, HEADERS as u64, base + PAYLOAD as u64, (self.memory.len() - PAYLOAD) as u64];
        let bytes = parts.map(u64::to_ne_bytes).concat();
        self.memory.bytes()[PARTS].copy_from_slice(&bytes);
    }

    /// Readies a command about the entry; the next `wait` submits it.
    fn submit(&mut self, command: u32, commit_id: u64) -> io::Result<()> {
        // `struct fuse_uring_cmd_req`: flags, commit_id, qid.
        let mut body = [0; 80];
        body[8..16].copy_from_slice(&commit_id.to_ne_bytes());
        body[16..18].copy_from_slice(&self.queue.to_ne_bytes());
        let sqe = opcode::UringCmd80::new(types::Fd(self.device.as_raw_fd()), command)
            .cmd(body)
            .addr(Some(self.memory.address() + PARTS.start as u64))
            .build();
        let sqe = raw::with_len(sqe, 2);
        raw::push(&mut self.ring, &sqe).ok_or(Errno::BUSY)?;
        self.state = State::Waiting;
        Ok(())
    }

    /// Waits for the result of the command under way.
    fn wait(&mut self) -> io::Result<i32> {
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if let Some(completed) = self.ring.completion().next() {
                return Ok(completed.result());
            }
        }
    }

    fn delivered(&mut self) -> Delivered<'_> {
        let len = u32::from_ne_bytes(self.memory.read(PAYLOAD_LEN)) as usize;
        let (headers, payload) = self.memory.bytes().split_at_mut(PAYLOAD);
        let (header, rest) = headers.split_at_mut(HEADER.end);
        let len = len.min(payload.len());
        Delivered { header, fixed: &mut rest[..FIXED.len()], payload, len }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.state == State::Waiting {
            // Nobody knows when the kernel writes into it for the last time.
            self.memory.keep();
        }
    }
}

mod raw {
    use super::*;

    /// The command with a length, which the crate has no word for.
    pub fn with_len(sqe: squeue::Entry128, len: u32) -> squeue::Entry128 {
        /// `offsetof(struct io_uring_sqe, len)`
        const LEN: usize = 24;
        const { assert!(size_of::<squeue::Entry128>() == 128) };
        let mut sqe = sqe;
        // SAFETY: the type is the kernel's structure, as it lies in memory
        // (`repr(C)`), aligned for its 64-bit numbers: a 32-bit number is there.
        unsafe { (&raw mut sqe).byte_add(LEN).cast::<u32>().write(len) };
        sqe
    }

    pub fn push(ring: &mut IoUring<squeue::Entry128, cqueue::Entry>, sqe: &squeue::Entry128) -> Option<()> {
        // SAFETY: what the command points to is the entry's memory, which lives
        // until the command has completed (`Drop for Entry`), as does the
        // descriptor; until then nobody else touches either.
        unsafe { ring.submission().push(sqe) }.ok()
    }
}

mod memory {
    use std::ffi::c_void;
    use std::ops::Range;
    use std::ptr::{self, NonNull};

    use rustix::mm::{MapFlags, ProtFlags};

    /// Pages of one's own, which stay where they are. Only those in use count.
    pub struct Memory {
        start: NonNull<u8>,
        len: usize,
        is_kept: bool,
    }

    // SAFETY: it is memory and nobody else's, whatever thread looks.
    unsafe impl Send for Memory {}

    impl Memory {
        pub fn new(len: usize) -> rustix::io::Result<Memory> {
            let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            // SAFETY: without an address, a mapping replaces nothing.
            let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, access, flags)? };
            let start = NonNull::new(start.cast()).ok_or(rustix::io::Errno::NOMEM)?;
            Ok(Memory { start, len, is_kept: false })
        }

        pub fn len(&self) -> usize {
            self.len
        }

        pub fn address(&self) -> u64 {
            self.start.addr().get() as u64
        }

        pub fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the mapping has these bytes, zero at first, and is lent
            // by this borrow alone; the kernel writes between borrows only.
            unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
        }

        pub fn read<const N: usize>(&mut self, at: Range<usize>) -> [u8; N] {
            let mut value = [0; N];
            value.copy_from_slice(&self.bytes()[at]);
            value
        }

        pub fn write<const N: usize>(&mut self, at: Range<usize>, value: [u8; N]) {
            self.bytes()[at].copy_from_slice(&value);
        }

        /// Leaves the pages mapped for ever.
        pub fn keep(&mut self) {
            self.is_kept = true;
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            if self.is_kept {
                return;
            }
            // SAFETY: the mapping is this, and nothing borrows from it any more.
            let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast::<c_void>(), self.len) };
            if let Err(errno) = unmapped {
                crate::log::warn(format_args!("cannot unmap memory: {errno}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Option<Entry> {
        let device: OwnedFd = std::fs::File::open(path).unwrap().into();
        let entry = Entry::new(Arc::new(device), 3, 1 << 20);
        if let Err(error) = &entry {
            println!("skipped: a ring: {error}");
        }
        entry.ok()
    }

    #[test]
    fn the_kernel_is_told_where_the_parts_are() {
        let Some(mut entry) = entry("/dev/null") else { return };
        entry.describe();
        let parts: [u8; 32] = entry.memory.read(PARTS);
        let parts: Vec<u64> =
            parts.chunks(8).map(|part| u64::from_ne_bytes(part.try_into().unwrap())).collect();
        let base = entry.memory.address();
        assert_eq!(parts, [base, 288, base + 4096, 1 << 20]);
        assert_eq!(base % 4096, 0);
    }

    #[test]
    fn an_entry_goes_to_and_fro() {
        // /dev/null takes every command and completes it at once.
        let Some(mut entry) = entry("/dev/null") else { return };
        for len in [5, 0, 1 << 20, usize::MAX] {
            let Ok(Some(delivered)) = entry.next() else {
                println!("skipped: commands: this kernel's /dev/null takes none");
                return;
            };
            assert_eq!((delivered.header.len(), delivered.fixed.len()), (128, 128));
            assert_eq!(delivered.payload.len(), 1 << 20);
            entry.set_len(len);
            assert_eq!(entry.delivered().len, len.min(1 << 20));
        }
    }

    #[test]
    fn who_takes_no_commands_says_so_once() {
        let Some(mut entry) = entry("/proc/self/status") else { return };
        assert!(entry.next().is_err());
        assert!(matches!(entry.next(), Ok(None)));
    }
}
