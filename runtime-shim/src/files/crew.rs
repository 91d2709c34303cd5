//! Threads that make a stream's small files while more of it is read.
//!
//! Each call on a mounted union waits for its server, so one thread alone spends
//! most of its time waiting. All that is of one path is done by one thread, in the
//! stream's order; what needs something else to be there [waits](Crew::await_path)
//! for it. A thread that fails ends, and whoever gives it more is told why.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use layerstore::layer::entry::Entry;

use super::make::Maker;
use crate::failure::{Failure, Result};

/// More threads were no faster where they were measured.
const THREADS: usize = 4;

/// How many files wait for a thread: at most 2 MiB of them, by [`super::unpack`]'s bound.
const WAITING: usize = 32;

/// What a thread is given.
enum Work {
    Make(Job),
    /// Somebody waits for all before this: until its other end is let go.
    Mark(#[expect(dead_code, reason = "it only lives")] Sender<Infallible>),
}

/// A file that is to be made, with all that is in it.
pub(super) struct Job {
    pub dir: OwnedFd,
    pub name: Vec<u8>,
    pub entry: Entry,
    pub contents: Vec<u8>,
}

/// A thread, and the way to it.
struct Thread<'s> {
    work: SyncSender<Work>,
    handle: ScopedJoinHandle<'s, Result<()>>,
}

/// The threads; each begins when there is something for it.
pub(super) struct Crew<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    maker: &'e Maker<'e>,
    threads: [Option<Thread<'s>>; THREADS],
}

impl<'s, 'e> Crew<'s, 'e> {
    pub fn new(scope: &'s Scope<'s, 'e>, maker: &'e Maker<'e>) -> Crew<'s, 'e> {
        Crew { scope, maker, threads: [const { None }; THREADS] }
    }

    /// Has a file made, in its turn.
    pub fn make(&mut self, path: &[&[u8]], job: Job) -> Result<()> {
        let Some(place) = self.threads.get_mut(index(path)) else { return Ok(()) };
        if place.is_none() {
            *place = begin(self.scope, self.maker);
        }
        match place {
            Some(thread) => give(thread, Work::Make(job)),
            // None can be had: then here.
            None => self.maker.job(&job),
        }
    }

    /// Waits until what was given of a path is made.
    pub fn await_path(&self, path: &[&[u8]]) -> Result<()> {
        let thread = self.threads.get(index(path)).and_then(Option::as_ref);
        wait(thread.into_iter())
    }

    /// Waits until all that was given is made.
    pub fn await_all(&self) -> Result<()> {
        wait(self.threads.iter().flatten())
    }

    /// Ends the threads, once all is made; why one of them failed goes before what became
    /// of the rest by that.
    pub fn end(self, rest: Result<()>) -> Result<()> {
        let mut outcome = Ok(());
        for Thread { work, handle } in self.threads.into_iter().flatten() {
            drop(work);
            let made = handle.join().unwrap_or_else(|_| Err(Failure::new("a thread that makes files broke")));
            outcome = outcome.and(made);
        }
        outcome.and(rest)
    }
}

fn index(path: &[&[u8]]) -> usize {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish() as usize % THREADS
}

fn begin<'s, 'e>(scope: &'s Scope<'s, 'e>, maker: &'e Maker<'e>) -> Option<Thread<'s>> {
    let (work, given) = sync_channel(WAITING);
    let handle = std::thread::Builder::new().spawn_scoped(scope, move || toil(maker, &given)).ok()?;
    Some(Thread { work, handle })
}

fn toil(maker: &Maker<'_>, given: &Receiver<Work>) -> Result<()> {
    for work in given {
        if let Work::Make(job) = work {
            maker.job(&job)?;
        }
    }
    Ok(())
}

/// One that does not take it has failed; [`Crew::end`] tells why.
fn give(thread: &Thread<'_>, work: Work) -> Result<()> {
    thread.work.send(work).map_err(|_| Failure::silent())
}

fn wait<'t, 's: 't>(threads: impl Iterator<Item = &'t Thread<'s>>) -> Result<()> {
    let (mark, let_go) = channel();
    for thread in threads {
        give(thread, Work::Mark(mark.clone()))?;
    }
    drop(mark);
    // Nothing comes: this ends when nobody holds the mark any more.
    match let_go.recv() {
        Ok(never) => match never {},
        Err(_) => Ok(()),
    }
}
