//! The transport that reads `/dev/fuse`: threads that read a request, have it
//! handled and write the reply.
//!
//! The kernel wakes the thread that has waited longest, so that each further one
//! makes all of them slower: there are few, and more only while all are busy for
//! long. To notice that costs a request nothing but a count.

use std::cell::Cell;
use std::io;
use std::thread::{Scope, Thread};
use std::time::{Duration, Instant};

use super::abi::{InHeader, OutHeader};
use super::channel::{Channel, Received};
use super::crew::{Answered, Bounds, Crew, MOST_THREADS, Taken};
use super::greeting::MAX_DATA;
use super::reply::Room;
use super::request::{Request, SetxattrForm};
use super::server::{Answer, Server};
use crate::log;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sys::fuse::Blocking;
use rustix::io::Errno;

/// Headers and structures around the data of the largest request or reply.
const AROUND: usize = 4096;
/// How long all threads are busy, none of them answering, until one more is
/// started: longer than nearly all requests take, shorter than people notice.
const STANDSTILL: Duration = Duration::from_millis(20);

/// As many threads as were asked for, and more while all of them stand still. A
/// single one was asked for to have requests served one after the other.
pub fn threads(asked: usize) -> Bounds {
    match asked {
        0 | 1 => Bounds { first: 1, most: 1, waiting: 1 },
        first => Bounds { first, most: MOST_THREADS, waiting: first },
    }
}

/// Serves until the file system is unmounted. A thread looks for the next request
/// for `spin` before it sleeps.
///
/// # Errors
/// What broke the connection, if not an unmount; the first thread's.
pub fn serve(
    server: &Server,
    channel: &Channel,
    form: SetxattrForm,
    threads: Bounds,
    spin: Duration,
) -> io::Result<()> {
    let device = Device {
        server,
        channel,
        form,
        crew: Crew::new(threads),
        spin,
        is_looked_at: AtomicBool::new(false),
        watcher: std::thread::current(),
        is_watched: AtomicBool::new(true),
        ended: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.first {
            device.start(scope);
        }
        device.watch(scope);
    });
    let ended = device.ended.lock().take();
    ended.unwrap_or(Ok(()))
}

/// A connection, and the threads that read it.
struct Device<'s> {
    server: &'s Server,
    channel: &'s Channel,
    form: SetxattrForm,
    crew: Crew,
    spin: Duration,
    /// Whether some thread looks for a request: one is enough.
    is_looked_at: AtomicBool,
    /// The thread that starts the others.
    watcher: Thread,
    /// Whether it looks at them, or sleeps until nobody waits.
    is_watched: AtomicBool,
    /// What the first to end says, if it has not left: the connection is over.
    ended: Mutex<Option<io::Result<()>>>,
}

impl Device<'_> {
    /// Starts a thread that is counted already.
    fn start<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) {
        let thread = std::thread::Builder::new().name("fuse".into());
        if let Err(error) = thread.spawn_scoped(scope, || self.work()) {
            log::warn(format_args!("cannot start one more thread: {error}"));
            self.crew.not_started();
        }
    }

    /// What each thread does.
    fn work(&self) {
        self.server.ready_thread();
        let result = match Worker::new(self).run() {
            Ok(End::Left) => return,
            Ok(End::Unmounted) => Ok(()),
            Err(error) => Err(error),
        };
        self.ended.lock().get_or_insert(result);
        self.watcher.unpark();
    }

    /// Starts one more thread whenever all stand still, until the end.
    fn watch<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) {
        while !self.is_over() {
            let exhausted = self.crew.exhausted();
            std::thread::park_timeout(STANDSTILL);
            if self.crew.is_waiting() {
                self.is_watched.store(false, Ordering::SeqCst);
                // Who was the last before that did not say so; and an end said
                // while this thread slept is not said again.
                if self.crew.is_waiting() && !self.is_over() {
                    std::thread::park();
                }
            } else if self.crew.exhausted() == exhausted && self.crew.enlarge() {
                self.start(scope);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ended.lock().is_some()
    }

    /// A thread has taken a request.
    fn taken(&self) {
        if self.crew.take() == Taken::NobodyWaits && !self.is_watched.swap(true, Ordering::SeqCst) {
            self.watcher.unpark();
        }
    }
}

/// How a thread ends.
enum End {
    /// Enough others wait.
    Left,
    /// There will be no more requests.
    Unmounted,
}

/// One thread.
struct Worker<'d> {
    device: &'d Device<'d>,
    /// Where the thread sleeps until a request comes.
    waiting: Channel,
    /// Where it looks for one without sleeping, if it may.
    asking: Option<Channel>,
    lookout: Lookout<'d>,
}

impl<'d> Worker<'d> {
    fn new(device: &'d Device<'d>) -> Worker<'d> {
        let channel = device.channel;
        // Where /dev/fuse cannot be opened again, the threads share one.
        let waiting = channel.clone_device(Blocking::Waits).unwrap_or_else(|_| channel.clone());
        let asking = match device.spin.is_zero() {
            true => None,
            false => channel.clone_device(Blocking::Asks).ok(),
        };
        let lookout = Lookout::new(&device.is_looked_at, device.spin);
        Worker { device, waiting, asking, lookout }
    }

    fn run(&self) -> io::Result<End> {
        let mut request = vec![0; MAX_DATA as usize + AROUND];
        let mut reply = vec![0; MAX_DATA as usize + AROUND];
        loop {
            let (channel, len) = match self.receive(&mut request)? {
                (channel, Received::Request(len)) => (channel, len),
                (_, Received::Nothing) => continue,
                (_, Received::End) => return Ok(End::Unmounted),
            };
            self.device.taken();
            self.answer(channel, request.get(..len).unwrap_or_default(), &mut reply);
            if self.device.crew.answered() == Answered::Leave {
                return Ok(End::Left);
            }
        }
    }

    /// The next request, and the channel that it is answered by.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<(&Channel, Received)> {
        if let Some(channel) = &self.asking {
            match self.lookout.receive(channel, buffer)? {
                Received::Nothing => {}
                found => return Ok((channel, found)),
            }
        }
        Ok((&self.waiting, self.waiting.receive(buffer)?))
    }

    fn answer(&self, channel: &Channel, bytes: &[u8], reply: &mut [u8]) {
        let request = match Request::whole(bytes, self.device.form) {
            Ok(request) => request,
            Err(header) => return refuse(channel, header, reply),
        };
        let room = Room::new(reply.get_mut(size_of::<OutHeader>()..).unwrap_or_default());
        let result = match self.device.server.handle(&request, room) {
            Answer::Done(len) => Ok(len),
            Answer::Failed(errno) => Err(errno),
            Answer::Silence => return,
        };
        channel.reply(request.header.unique, result, reply);
    }
}

/// Answers what cannot be understood.
fn refuse(channel: &Channel, header: Option<InHeader>, reply: &mut [u8]) {
    let Some(header) = header else {
        return log::warn(format_args!("the kernel sent a request without a header"));
    };
    log::warn(format_args!("the kernel sent a malformed request, opcode {}", header.opcode));
    channel.reply(header.unique, Err(Errno::IO), reply);
}

/// One thread's way of looking for the next request before it sleeps: to wake a
/// thread on another processor takes longer than most requests.
struct Lookout<'s> {
    /// Whether some thread is looking: one is enough.
    taken: &'s AtomicBool,
    limit: Duration,
    /// How often it paid lately: found requests against vain looks.
    credit: Cell<u32>,
}

/// Vain looks in a row until a thread gives up for a while.
const CREDIT: u32 = 4;
/// Sleeps until it tries again.
const PAUSE: u32 = 64;

impl<'s> Lookout<'s> {
    fn new(taken: &'s AtomicBool, limit: Duration) -> Lookout<'s> {
        Lookout { taken, limit, credit: Cell::new(CREDIT + PAUSE) }
    }

    /// Looks for a request, as long as that is likely to find one.
    fn receive(&self, channel: &Channel, buffer: &mut [u8]) -> rustix::io::Result<Received> {
        let credit = self.credit.get();
        if credit <= PAUSE {
            // Out of credit: some sleeps, then one more look.
            self.credit.set(if credit == 0 { PAUSE + 1 } else { credit - 1 });
            return Ok(Received::Nothing);
        }
        if self.taken.swap(true, Ordering::Acquire) {
            return Ok(Received::Nothing);
        }
        let found = self.look(channel, buffer);
        self.taken.store(false, Ordering::Release);
        self.credit.set(match &found {
            Ok(Received::Request(_)) => CREDIT + PAUSE,
            _ => credit - 1,
        });
        found
    }

    fn look(&self, channel: &Channel, buffer: &mut [u8]) -> rustix::io::Result<Received> {
        let start = Instant::now();
        loop {
            match channel.receive(buffer)? {
                Received::Nothing if start.elapsed() < self.limit => {
                    // The client may want this very processor.
                    rustix::thread::sched_yield();
                }
                other => return Ok(other),
            }
        }
    }
}
