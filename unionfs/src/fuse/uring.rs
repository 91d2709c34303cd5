//! The transport through io_uring: the kernel has a queue for each processor,
//! and puts the requests of whoever runs there into it.
//!
//! A thread has one entry of one queue and stays on that queue's processor:
//! asking, acting and answering never wake another one. The kernel gives a
//! request to the entry that came free last. With a single caller that is always
//! the same thread; while a request takes its time (a copy-up, a slow disk) its
//! entry is not free, so that the next request goes to the queue's next thread.
//! Nobody waits for a stranger's request as long as one thread is left, nobody
//! needs to know beforehand which requests are slow, and who takes a queue's last
//! entry has another made.
//!
//! What still comes by `/dev/fuse` (forgets, and everything if the kernel
//! changes its mind) is read there by one more thread.

use std::io;
use std::thread::Scope;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::CpuSet;
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{InHeader, OutHeader};
use super::channel::Channel;
use super::crew::{Bounds, Crew, MOST_THREADS, Taken};
use super::device;
use super::greeting::MAX_DATA;
use super::reply::Room;
use super::request::{Body, Malformed, Request, SetxattrForm};
use super::server::{Answer, Server};
use super::vigil::Vigil;
use crate::log;
use crate::sync::Mutex;
use crate::sys::uring::{Delivered, Entry};

/// Threads of a queue at least: one for the rest, while one is busy. The threads
/// of all queues together are [`MOST_THREADS`], unless even this for each is more:
/// those of one queue all but sleep for ever on a machine of many processors.
const FEWEST_PER_QUEUE: usize = 2;
/// Threads that a queue may come to have, where there is no room for more.
const MOST_PER_QUEUE: usize = 8;
/// Room for the replies to requests that themselves have a payload, which must
/// not be written over while it is read. The largest is an attribute's value,
/// of 64 KiB.
const ASIDE: usize = (64 << 10) + 4096;

/// All queues, each with the entries it begins with, for [`serve`].
pub struct Queues(Vec<(Queue, Vec<Entry>)>);

/// The queue of a processor.
struct Queue {
    cpu: u16,
    /// Its threads. None can leave: the kernel takes a reply and gives the next
    /// request in one.
    crew: Crew,
}

impl Queues {
    /// With about so many entries for each processor.
    ///
    /// # Errors
    /// Why there can be no rings here.
    pub fn new(channel: &Channel, per_queue: usize) -> io::Result<Queues> {
        let cpus = possible_cpus()?;
        let share = MOST_THREADS / usize::from(cpus).max(1);
        let first = per_queue.clamp(FEWEST_PER_QUEUE, share.max(FEWEST_PER_QUEUE));
        let bounds = Bounds { first, most: share.max(MOST_PER_QUEUE), waiting: usize::MAX };
        let queue = |cpu| {
            let entries = (0..first).map(|_| new_entry(channel, cpu)).collect::<io::Result<_>>()?;
            Ok((Queue { cpu, crew: Crew::new(bounds) }, entries))
        };
        Ok(Queues((0..cpus).map(queue).collect::<io::Result<_>>()?))
    }
}

fn new_entry(channel: &Channel, cpu: u16) -> io::Result<Entry> {
    Entry::new(channel.device().clone(), cpu, MAX_DATA as usize).map_err(no_ring)
}

/// Says why, and what can be done where somebody forbade it.
fn no_ring(error: io::Error) -> io::Error {
    let sentence = match error.kind() {
        io::ErrorKind::PermissionDenied => "this process may not use io_uring\n\
             hint: sysctl kernel.io_uring_disabled=0; in a container, its seccomp profile decides"
            .to_owned(),
        _ => format!("cannot set up io_uring: {error}"),
    };
    io::Error::new(error.kind(), sentence)
}

/// Whether the threads may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// All of them are there.
    Serve,
    /// One is missing: its queue would keep its callers waiting.
    GiveUp,
}

/// Serves until the file system is unmounted. A processor is kept awake while
/// requests are at most `spin` apart, where that helps.
///
/// # Errors
/// That a thread could not be made, or what broke the connection, if not an
/// unmount.
pub fn serve(
    server: &Server,
    channel: &Channel,
    form: SetxattrForm,
    queues: Queues,
    spin: Duration,
) -> io::Result<()> {
    let (queues, entries): (Vec<_>, Vec<_>) = queues.0.into_iter().unzip();
    let start = Mutex::new(Start::GiveUp);
    let rings = Rings { server, channel, form, vigil: Vigil::new(spin), ended: Mutex::new(Ok(())) };
    let (rings, start) = (&rings, &start);
    let read = std::thread::scope(|scope| {
        let mut gate = start.lock();
        for (queue, entries) in queues.iter().zip(entries) {
            for entry in entries {
                queue.thread().spawn_scoped(scope, move || match go(start) {
                    Start::GiveUp => {}
                    Start::Serve => rings.work(scope, queue, entry),
                })?;
            }
        }
        if let Some(vigil) = &rings.vigil {
            std::thread::Builder::new().name("fuse-awake".into()).spawn_scoped(scope, || vigil.keep())?;
        }
        *gate = Start::Serve;
        drop(gate);
        let read = rings.read_device();
        if let Some(vigil) = &rings.vigil {
            vigil.end();
        }
        read
    });
    read.and(std::mem::replace(&mut *rings.ended.lock(), Ok(())))
}

/// Waits until all threads are there.
fn go(start: &Mutex<Start>) -> Start {
    *start.lock()
}

impl Queue {
    /// One of its threads, to be.
    fn thread(&self) -> std::thread::Builder {
        std::thread::Builder::new().name(format!("fuse-{}", self.cpu))
    }

    fn not_started(&self, error: &io::Error) {
        log::warn(format_args!("cannot start one more thread: {error}"));
        self.crew.not_started();
    }
}

/// What the threads share.
struct Rings<'s> {
    server: &'s Server,
    channel: &'s Channel,
    form: SetxattrForm,
    vigil: Option<Vigil>,
    /// What the first thread to fail says.
    ended: Mutex<io::Result<()>>,
}

impl Rings<'_> {
    /// Reads what does not come by the queues: forgets as a rule, which are not
    /// worth a look before each sleep.
    fn read_device(&self) -> io::Result<()> {
        let threads = Bounds { first: 1, most: MOST_THREADS, waiting: 1 };
        device::serve(self.server, self.channel, self.form, threads, Duration::ZERO)
    }

    /// What the thread of an entry does.
    fn work<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>, queue: &'env Queue, entry: Entry) {
        let ended = self.run(queue, entry, || self.start(scope, queue)).or_else(|error| {
            log::warn(format_args!("the kernel refuses an io_uring entry: {error}"));
            // It then goes back to this by itself.
            self.read_device()
        });
        let mut first = self.ended.lock();
        if first.is_ok() {
            *first = ended;
        }
    }

    /// Starts one more thread, which is counted already. A request that comes
    /// before it has registered its entry waits for the queue's next request or
    /// reply: the kernel looks for entries when a request comes, and for requests
    /// when a reply does.
    fn start<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>, queue: &'env Queue) {
        let with_entry = move || match new_entry(self.channel, queue.cpu) {
            Ok(entry) => self.work(scope, queue, entry),
            Err(error) => queue.not_started(&error),
        };
        if let Err(error) = queue.thread().spawn_scoped(scope, with_entry) {
            queue.not_started(&error);
        }
    }

    /// Serves by an entry until the file system is unmounted.
    ///
    /// # Errors
    /// The kernel does not take the entry.
    fn run(&self, queue: &Queue, mut entry: Entry, start_another: impl Fn()) -> io::Result<()> {
        stay_on(queue.cpu);
        self.server.ready_thread();
        let mut aside = vec![0; ASIDE];
        while let Some(delivered) = entry.next()? {
            if let Some(vigil) = &self.vigil {
                vigil.request();
            }
            if queue.crew.take() == Taken::NobodyWaits && queue.crew.enlarge() {
                start_another();
            }
            let len = answer(self.server, self.form, delivered, &mut aside);
            entry.set_len(len);
            queue.crew.answered();
        }
        Ok(())
    }
}

/// Handles a request, and puts the reply in its place. The payload's length is
/// returned.
fn answer(server: &Server, form: SetxattrForm, delivered: Delivered<'_>, aside: &mut [u8]) -> usize {
    let Delivered { header: head, fixed, payload, len } = delivered;
    let Ok((header, _)) = InHeader::read_from_prefix(head) else { return 0 };
    let handle =
        |rest: &[u8], room: &mut [u8]| match Request::decode(header, Body::Split { fixed, rest }, form) {
            Ok(request) => server.handle(&request, Room::new(room)),
            Err(Malformed) => {
                log::warn(format_args!("the kernel sent a malformed request, opcode {}", header.opcode));
                Answer::Failed(Errno::IO)
            }
        };
    let answer = match payload.get(..len).unwrap_or_default() {
        [] => handle(&[], payload),
        rest => handle(rest, aside),
    };
    let (filled, error) = match answer {
        Answer::Done(filled) => (filled, 0),
        Answer::Failed(errno) => (0, -errno.raw_os_error()),
        // No request without a reply comes this way; its entry must go back.
        Answer::Silence => (0, 0),
    };
    if len > 0 {
        put(payload, aside.get(..filled).unwrap_or_default());
    }
    let out = OutHeader { len: (size_of::<OutHeader>() + filled) as u32, error, unique: header.unique };
    put(head, out.as_bytes());
    filled
}

/// Puts bytes to the front of others, which have room for them.
fn put(room: &mut [u8], bytes: &[u8]) {
    if let Some(front) = room.get_mut(..bytes.len()) {
        front.copy_from_slice(bytes);
    }
}

/// Keeps the calling thread on a processor, if it may run there and that is on.
fn stay_on(cpu: u16) {
    let cpu = usize::from(cpu);
    let is_allowed = cpu < CpuSet::MAX_CPU
        && rustix::thread::sched_getaffinity(None).is_ok_and(|allowed| allowed.is_set(cpu));
    if !is_allowed {
        return;
    }
    let mut only = CpuSet::new();
    only.set(cpu);
    if let Err(errno) = rustix::thread::sched_setaffinity(None, &only) {
        log::warn(format_args!("cannot keep a thread on processor {cpu}: {errno}"));
    }
}

/// How many processors the kernel counts with, on or off: it has a queue for
/// each.
fn possible_cpus() -> io::Result<u16> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    count(list.trim()).ok_or_else(|| io::Error::other(format!("no list of processors: {list}")))
}

/// The count of a list such as `0-3,8`.
fn count(list: &str) -> Option<u16> {
    list.split(',').try_fold(0_u16, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::abi::{self, AttrOut, EntryOut};
    use crate::fuse::server::tests::server;
    use crate::sys::scratch::Scratch;

    /// What an entry holds, with the leavings of an earlier request in it.
    struct Held {
        header: [u8; 128],
        fixed: [u8; 128],
        payload: Vec<u8>,
    }

    impl Held {
        fn new() -> Held {
            Held { header: [0xff; 128], fixed: [0xff; 128], payload: vec![0xff; 1 << 16] }
        }

        /// The error and the payload of the reply to a request.
        fn ask(&mut self, server: &Server, header: InHeader, fixed: &[u8], rest: &[u8]) -> (i32, &[u8]) {
            put(&mut self.header, header.as_bytes());
            put(&mut self.fixed, fixed);
            put(&mut self.payload, rest);
            let (header, fixed, payload) = (&mut self.header[..], &mut self.fixed[..], &mut self.payload[..]);
            let delivered = Delivered { header, fixed, payload, len: rest.len() };
            let len = answer(server, SetxattrForm::Long, delivered, &mut vec![0xff; ASIDE]);
            let (out, _) = OutHeader::read_from_prefix(&self.header).unwrap();
            assert_eq!((out.unique, out.len as usize), (7, size_of::<OutHeader>() + len));
            (out.error, &self.payload[..len])
        }
    }

    #[test]
    fn a_reply_lies_where_its_request_lay() {
        let scratch = Scratch::new("uring");
        let (server, mut held) = (server(&scratch), Held::new());
        let header = |opcode, nodeid| InHeader { opcode, nodeid, unique: 7, ..Default::default() };
        let (error, found) = held.ask(&server, header(abi::LOOKUP, 1), &[], b"a\0");
        let entry = EntryOut::read_from_bytes(found).unwrap();
        assert_eq!((error, entry.attr.size), (0, 12));
        let (error, attr) = held.ask(&server, header(abi::GETATTR, entry.nodeid), &[0; 16], &[]);
        assert_eq!((error, AttrOut::read_from_bytes(attr).unwrap().attr.size), (0, 12));
        let at = abi::ReadIn { offset: 2, size: 5, ..Default::default() };
        assert_eq!(
            held.ask(&server, header(abi::READ, entry.nodeid), at.as_bytes(), &[]),
            (0, &b"lower"[..])
        );
        let get = abi::GetxattrIn { size: 0, padding: 0 };
        let (error, nothing) =
            held.ask(&server, header(abi::GETXATTR, entry.nodeid), get.as_bytes(), b"user.none\0");
        assert_eq!((error, nothing), (-libc::ENODATA, &[][..]));
        // A name without its end, and data that is not there.
        assert_eq!(held.ask(&server, header(abi::LOOKUP, 1), &[], b"a").0, -libc::EIO);
        let write = abi::WriteIn { size: 9, ..Default::default() };
        let asked = held.ask(&server, header(abi::WRITE, entry.nodeid), write.as_bytes(), b"short");
        assert_eq!(asked.0, -libc::EIO);
        // FORGET does not come this way; if it did, the entry would go back.
        assert_eq!(held.ask(&server, header(abi::FORGET, 1), &[0; 8], &[]), (0, &[][..]));
    }

    #[test]
    fn processors_are_counted() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-1"), Some(2));
        assert_eq!(count("0-3,8"), Some(5));
        for bad in ["", "0-", "3-1", "a", "0-65535,1"] {
            assert_eq!(count(bad), None, "{bad}");
        }
        assert!(possible_cpus().unwrap() >= 1);
    }
}
