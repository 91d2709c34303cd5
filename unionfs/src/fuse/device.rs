//! The transport that reads `/dev/fuse`: threads that read a request, have it
//! handled and write the reply.

use std::io;
use std::time::{Duration, Instant};

use super::SessionConfig;
use super::abi::{InHeader, OutHeader};
use super::channel::{Channel, Received};
use super::greeting::{MAX_DATA, Terms};
use super::reply::Room;
use super::request::{Request, SetxattrForm};
use super::server::{Answer, Server};
use crate::log;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sys::fuse::Blocking;
use rustix::io::Errno;

/// Headers and structures around the data of the largest request or reply.
const AROUND: usize = 4096;

/// Serves until the file system is unmounted, by `config.threads` threads.
///
/// # Errors
/// What broke the connection, if not an unmount; the first thread's.
pub fn serve(server: &Server, channel: &Channel, terms: &Terms, config: &SessionConfig) -> io::Result<()> {
    let lookout = AtomicBool::new(false);
    let worker = || Worker::new(server, channel, terms.setxattr, Lookout::new(&lookout, config.spin));
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 1..config.threads.max(1) {
            let mut worker = worker();
            let thread = std::thread::Builder::new().name(format!("fuse-{number}"));
            threads.push(thread.spawn_scoped(scope, move || worker.run())?);
        }
        let mut result = worker().run();
        for thread in threads {
            let ended =
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the server died")));
            result = result.and(ended);
        }
        result
    })
}

/// One thread.
struct Worker<'s> {
    server: &'s Server,
    /// Where the thread sleeps until a request comes.
    waiting: Channel,
    /// Where it looks for one without sleeping, if it may.
    asking: Option<Channel>,
    lookout: Lookout<'s>,
    form: SetxattrForm,
}

impl<'s> Worker<'s> {
    fn new(server: &'s Server, channel: &Channel, form: SetxattrForm, lookout: Lookout<'s>) -> Worker<'s> {
        // Where /dev/fuse cannot be opened again, the threads share one.
        let waiting = channel.clone_device(Blocking::Waits).unwrap_or_else(|_| channel.clone());
        let asking = match lookout.limit.is_zero() {
            true => None,
            false => channel.clone_device(Blocking::Asks).ok(),
        };
        Worker { server, waiting, asking, lookout, form }
    }

    fn run(&mut self) -> io::Result<()> {
        self.server.ready_thread();
        let mut request = vec![0; MAX_DATA as usize + AROUND];
        let mut reply = vec![0; MAX_DATA as usize + AROUND];
        loop {
            if let Some(channel) = &self.asking {
                match self.lookout.receive(channel, &mut request)? {
                    Received::Request(len) => {
                        self.answer(channel, request.get(..len).unwrap_or_default(), &mut reply);
                        continue;
                    }
                    Received::Nothing => {}
                    Received::End => return Ok(()),
                }
            }
            match self.waiting.receive(&mut request)? {
                Received::Request(len) => {
                    self.answer(&self.waiting, request.get(..len).unwrap_or_default(), &mut reply);
                }
                Received::Nothing => {}
                Received::End => return Ok(()),
            }
        }
    }

    fn answer(&self, channel: &Channel, bytes: &[u8], reply: &mut [u8]) {
        let request = match Request::whole(bytes, self.form) {
            Ok(request) => request,
            Err(header) => return refuse(channel, header, reply),
        };
        let room = Room::new(reply.get_mut(size_of::<OutHeader>()..).unwrap_or_default());
        let result = match self.server.handle(&request, room) {
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
    credit: u32,
}

/// Vain looks in a row until a thread gives up for a while.
const CREDIT: u32 = 4;
/// Sleeps until it tries again.
const PAUSE: u32 = 64;

impl<'s> Lookout<'s> {
    fn new(taken: &'s AtomicBool, limit: Duration) -> Lookout<'s> {
        Lookout { taken, limit, credit: CREDIT + PAUSE }
    }

    /// Looks for a request, as long as that is likely to find one.
    fn receive(&mut self, channel: &Channel, buffer: &mut [u8]) -> rustix::io::Result<Received> {
        if self.credit <= PAUSE {
            // Out of credit: some sleeps, then one more look.
            self.credit = if self.credit == 0 { PAUSE + 1 } else { self.credit - 1 };
            return Ok(Received::Nothing);
        }
        if self.taken.swap(true, Ordering::Acquire) {
            return Ok(Received::Nothing);
        }
        let found = self.look(channel, buffer);
        self.taken.store(false, Ordering::Release);
        self.credit = match &found {
            Ok(Received::Request(_)) => CREDIT + PAUSE,
            _ => self.credit - 1,
        };
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
