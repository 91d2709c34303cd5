//! INIT: what the kernel offers, and what is taken.

use std::io;

use zerocopy::IntoBytes;

use super::abi::{self, InitIn, InitOut, OutHeader, init};
use super::channel::{Channel, Received};
use super::request::{Operation, Request, SetxattrForm};
use super::server::Opens;

/// Read-ahead that the kernel may do, bytes.
const READ_AHEAD: u32 = 1 << 20;
/// Data in one WRITE or READ, the most this kernel sends, bytes.
pub const MAX_DATA: u32 = 1 << 20;
/// A page, as MAX_PAGES counts them.
const PAGE: u32 = 4096;
/// Requests nobody waits for (read-ahead, releases) under way at a time.
const MAX_BACKGROUND: u16 = 64;
/// Where the kernel slows down those who cause them.
const CONGESTION: u16 = 48;
/// A file passed through may not be of a stacked file system itself: this mount
/// then still fits below kernel overlayfs.
const STACK_DEPTH: u32 = 1;

/// What is asked for beyond what every session has.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Access lists, enforced by the kernel.
    pub acl: bool,
    /// Whether opens are answered.
    pub opens: Opens,
    /// Data that does not come through the server.
    pub passthrough: bool,
    /// Writes gathered in the mount's page cache.
    pub writeback: bool,
    /// Requests through io_uring.
    pub uring: bool,
}

/// What was settled.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The form of SETXATTR.
    pub setxattr: SetxattrForm,
    /// Whether passthrough is on.
    pub passthrough: bool,
}

impl Terms {
    fn of(flags: u64) -> Terms {
        Terms {
            setxattr: match flags & init::SETXATTR_EXT != 0 {
                true => SetxattrForm::Long,
                false => SetxattrForm::Short,
            },
            passthrough: flags & init::PASSTHROUGH != 0,
        }
    }
}

/// The kernel's INIT, unanswered: every request waits for that.
pub struct Greeting {
    unique: u64,
    offer: InitIn,
}

impl Greeting {
    /// Waits for it.
    ///
    /// # Errors
    /// What reading gave, or a sentence: the kernel is too old.
    pub fn receive(channel: &Channel) -> io::Result<Greeting> {
        let mut buffer = vec![0; 64 * 1024];
        let (unique, offer) = loop {
            let len = match channel.receive(&mut buffer)? {
                Received::Request(len) => len,
                Received::Nothing => continue,
                Received::End => return Err(io::ErrorKind::ConnectionAborted.into()),
            };
            let request = Request::whole(buffer.get(..len).unwrap_or_default(), SetxattrForm::Short);
            match request.map(|request| (request.header.unique, request.operation)) {
                Ok((unique, Operation::Init(offer))) => break (unique, offer),
                _ => return Err(io::Error::other("the kernel's first request is not INIT")),
            }
        };
        if (offer.major, offer.minor) < (abi::MAJOR, abi::OLDEST_MINOR) {
            channel.reply(unique, Err(rustix::io::Errno::PROTO), &mut [0; size_of::<OutHeader>()]);
            let version = format!("FUSE {}.{}", offer.major, offer.minor);
            return Err(io::Error::other(format!("{version} is too old: Linux 5.4 or newer is needed")));
        }
        Ok(Greeting { unique, offer })
    }

    /// Whether the kernel would take io_uring entries.
    pub fn offers_uring(&self) -> bool {
        offered(&self.offer) & init::OVER_IO_URING != 0
    }

    /// Whether the kernel can read and write files by itself.
    pub fn offers_passthrough(&self) -> bool {
        offered(&self.offer) & init::PASSTHROUGH != 0
    }

    /// Answers it.
    pub fn answer(self, channel: &Channel, wishes: &Wishes) -> Terms {
        let mut message = [0; size_of::<OutHeader>() + size_of::<InitOut>()];
        let (answer, flags) = answer(&self.offer, wishes);
        message[size_of::<OutHeader>()..].copy_from_slice(answer.as_bytes());
        channel.reply(self.unique, Ok(size_of::<InitOut>()), &mut message);
        Terms::of(flags)
    }
}

/// All that the kernel knows.
fn offered(offer: &InitIn) -> u64 {
    match u64::from(offer.flags) & init::INIT_EXT != 0 {
        true => u64::from(offer.flags) | u64::from(offer.flags2) << 32,
        false => u64::from(offer.flags),
    }
}

/// The reply to an offer, and the flags taken.
fn answer(offer: &InitIn, wishes: &Wishes) -> (InitOut, u64) {
    // An older kernel goes without what it does not know.
    let flags = wanted(wishes) & offered(offer);
    let reply = InitOut {
        major: abi::MAJOR,
        minor: abi::MINOR.min(offer.minor),
        max_readahead: READ_AHEAD.min(offer.max_readahead),
        flags: flags as u32,
        flags2: (flags >> 32) as u32,
        max_background: MAX_BACKGROUND,
        congestion_threshold: CONGESTION,
        max_write: MAX_DATA,
        time_gran: 1,
        max_pages: (MAX_DATA / PAGE) as u16,
        max_stack_depth: if flags & init::PASSTHROUGH != 0 { STACK_DEPTH } else { 0 },
        ..Default::default()
    };
    (reply, flags)
}

fn wanted(wishes: &Wishes) -> u64 {
    let optional = [
        (wishes.acl, init::POSIX_ACL),
        // Without OPEN, a truncation must come as a request of its own.
        (wishes.opens == Opens::Answered, init::ATOMIC_O_TRUNC),
        (wishes.passthrough, init::PASSTHROUGH),
        (wishes.writeback, init::WRITEBACK_CACHE),
        (wishes.uring, init::OVER_IO_URING),
    ];
    let chosen = optional.iter().filter(|(is_wished, _)| *is_wished).fold(0, |all, (_, flag)| all | flag);
    chosen
        | init::ASYNC_READ
        | init::BIG_WRITES
        | init::MAX_PAGES
        | init::DONT_MASK
        // Always, not when the kernel guesses (READDIRPLUS_AUTO): who lists a
        // directory to its end and then looks at what is in it would pay a LOOKUP
        // for all names but the first few.
        | init::DO_READDIRPLUS
        | init::PARALLEL_DIROPS
        | init::HANDLE_KILLPRIV_V2
        | init::CACHE_SYMLINKS
        | init::EXPLICIT_INVAL_DATA
        | init::SETXATTR_EXT
        | init::INIT_EXT
        // Node ids end with the session, and a file handle must not: none are
        // given out, as by kernel overlayfs without `nfs_export`.
        | init::NO_EXPORT_SUPPORT
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wishes =
        Wishes { acl: true, opens: Opens::Spared, passthrough: true, writeback: false, uring: true };

    #[test]
    fn only_what_is_offered_is_taken() {
        let old = InitIn { major: 7, minor: 31, flags: !(init::INIT_EXT as u32), ..Default::default() };
        let (reply, flags) = answer(&old, &ALL);
        assert_eq!((reply.minor, reply.flags2, reply.max_stack_depth), (31, 0, 0));
        assert_eq!(flags & init::PASSTHROUGH, 0);
        let new = InitIn { major: 7, minor: 99, flags: u32::MAX, flags2: u32::MAX, ..Default::default() };
        let (reply, flags) = answer(&new, &ALL);
        assert_eq!((reply.minor, reply.max_stack_depth), (abi::MINOR, STACK_DEPTH));
        assert!(Terms::of(flags).passthrough);
        assert_eq!(answer(&new, &Wishes { uring: false, ..ALL }).1 & init::OVER_IO_URING, 0);
        assert!(Greeting { unique: 1, offer: new }.offers_uring());
        assert!(!Greeting { unique: 1, offer: old }.offers_uring());
    }

    #[test]
    fn truncation_is_not_left_to_opens_that_never_come() {
        assert_eq!(wanted(&ALL) & init::ATOMIC_O_TRUNC, 0);
        assert_ne!(wanted(&Wishes { opens: Opens::Answered, ..ALL }) & init::ATOMIC_O_TRUNC, 0);
    }
}
