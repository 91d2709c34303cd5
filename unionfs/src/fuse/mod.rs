//! The FUSE server: requests become calls of [`crate::ops`], their values
//! replies. No decision about files is made here, and nothing outside this
//! module knows the protocol.
//!
//! | module | what |
//! |---|---|
//! | `abi` | the protocol's numbers and structures |
//! | `request`, `reply` | bytes to operations, values to bytes |
//! | `greeting` | INIT: what is offered, what is taken |
//! | `server` | the dispatch table |
//! | `channel` | `/dev/fuse` as reads and writes |
//! | `crew` | how many threads wait |
//! | `device` | the transport that reads `/dev/fuse` |
//! | `uring` | the transport through io_uring |
//! | `vigil` | a processor kept awake for it |
//! | `plain` | the crate `fuser` in the place of all of these: slower, and the cross-check |

pub(crate) mod abi;
mod channel;
mod crew;
mod device;
mod greeting;
mod listings;
mod plain;
mod reply;
mod request;
mod server;
mod uring;
mod vigil;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::Union;
use crate::ops::{PassedLowers, Passthrough};
use crate::sys::fuse::may_pass_through;
use channel::Channel;
use greeting::{Greeting, Terms, Wishes};
use server::{Opens, Server};
use uring::Queues;

/// How requests are served.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Threads that wait for requests, through io_uring for each processor;
    /// more are started when all are busy. One that reads `/dev/fuse` stays
    /// alone.
    pub threads: usize,
    /// How requests arrive.
    pub transport: Transport,
    /// How file data reaches its readers.
    pub data: DataPath,
    /// Whether writes are gathered in the mount's page cache, and reach the server
    /// when a file is closed, synced or the kernel needs the memory.
    pub writeback: bool,
    /// How long a thread looks for the next request before it sleeps.
    pub spin: Duration,
}

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The fastest that the kernel has.
    Auto,
    /// Through io_uring, which the system's administrator must have allowed.
    Uring,
    /// By reading `/dev/fuse`.
    Device,
    /// By the crate `fuser`.
    Fuser,
}

/// How file data reaches its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPath {
    /// [`DataPath::Programs`] for the system's administrator, else
    /// [`DataPath::Unopened`].
    Auto,
    /// Every file that the kernel takes is passed through to it: who reads a file
    /// of a lower does not see what others write to it later.
    Passthrough,
    /// As [`DataPath::Upper`], and programs of the lowers, which nobody can write
    /// to while they run.
    Programs,
    /// Passed through are files of the upper; all in a union that is read-only.
    Upper,
    /// Through the mount's page cache.
    Cached,
    /// Through the mount's page cache, and opens are not even asked for.
    Unopened,
}

impl DataPath {
    /// Whether the kernel takes files over.
    fn passes(self) -> bool {
        matches!(self, DataPath::Passthrough | DataPath::Programs | DataPath::Upper)
    }

    /// What it comes to with this kernel and this process's rights.
    ///
    /// # Errors
    /// A sentence: what was asked for cannot be had.
    fn settle(self, greeting: &Greeting, writeback: bool) -> io::Result<DataPath> {
        let can_pass = greeting.offers_passthrough() && may_pass_through();
        match self {
            DataPath::Auto if writeback => Ok(DataPath::Unopened),
            asked if asked.passes() && writeback => Err(io::Error::other(
                "writes to files that are passed through cannot be gathered\nhint: data=auto, or no writeback=1",
            )),
            DataPath::Auto if can_pass => Ok(DataPath::Programs),
            DataPath::Auto => Ok(DataPath::Unopened),
            asked if asked.passes() && !can_pass => Err(io::Error::other(
                "files are passed through for the system's own root alone, by Linux 6.9 and newer\nhint: data=auto",
            )),
            asked => Ok(asked),
        }
    }
}

/// How many files may stay open between requests: a part of those this process
/// may have, the rest being for directories and for what is in use.
fn files_kept_open() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 16);
    usize::try_from(limit / 4).unwrap_or(usize::MAX).clamp(16, 1 << 16)
}

/// A union that answers on an open, mounted `/dev/fuse` descriptor.
pub struct Session(Kind);

enum Kind {
    Plain(plain::Session),
    Own { server: Server, channel: Channel, terms: Terms, config: SessionConfig, queues: Option<Queues> },
}

impl Session {
    /// Takes the descriptor of a mount just made and greets the kernel; when
    /// this returns, the mount is usable once [`Session::run`] is called.
    ///
    /// # Errors
    /// What reading or writing the descriptor gave, or a kernel too old.
    pub fn start(union: Arc<Union>, device: OwnedFd, config: SessionConfig) -> io::Result<Session> {
        if config.transport == Transport::Fuser {
            if config.writeback {
                return Err(io::Error::other("transport=fuser has no writeback=1\nhint: transport=auto"));
            }
            return Ok(Session(Kind::Plain(plain::Session::start(union, device, config.threads)?)));
        }
        let channel = Channel::new(Arc::new(device));
        let greeting = Greeting::receive(&channel)?;
        let data = config.data.settle(&greeting, config.writeback)?;
        let queues = queues(&greeting, &channel, &config)?;
        let wishes = Wishes {
            acl: union.config().acl,
            opens: if data == DataPath::Unopened { Opens::Spared } else { Opens::Answered },
            passthrough: data.passes(),
            writeback: config.writeback,
            uring: queues.is_some(),
        };
        let terms = greeting.answer(&channel, &wishes);
        if terms.passthrough {
            let lowers = match data {
                DataPath::Passthrough => PassedLowers::All,
                DataPath::Programs => PassedLowers::Programs,
                _ => PassedLowers::None,
            };
            union.pass_through(Passthrough::new(channel.device().clone(), lowers));
        }
        if wishes.opens == Opens::Spared {
            union.spare_opens(files_kept_open());
        }
        let server = Server::new(union, wishes.opens, channel.clone());
        Ok(Session(Kind::Own { server, channel, terms, config, queues }))
    }

    /// Serves until the file system is unmounted.
    ///
    /// # Errors
    /// What broke the connection, if not an unmount.
    pub fn run(self) -> io::Result<()> {
        match self.0 {
            Kind::Plain(session) => session.run(),
            Kind::Own { server, channel, terms, config, queues: Some(queues) } => {
                uring::serve(&server, &channel, terms.setxattr, queues, config.spin)
            }
            Kind::Own { server, channel, terms, config, queues: None } => {
                let threads = device::threads(config.threads);
                device::serve(&server, &channel, terms.setxattr, threads, config.spin)
            }
        }
    }
}

/// The queues of io_uring, where requests are to come by them. They are made
/// before the kernel is told: once it knows, every request waits for them.
fn queues(greeting: &Greeting, channel: &Channel, config: &SessionConfig) -> io::Result<Option<Queues>> {
    let made = || match greeting.offers_uring() {
        true => Queues::new(channel, config.threads),
        false => Err(io::Error::other(
            "the kernel does not offer io_uring\nhint: echo Y > /sys/module/fuse/parameters/enable_uring",
        )),
    };
    match config.transport {
        Transport::Uring => made().map(Some),
        Transport::Auto => Ok(made().ok()),
        Transport::Device | Transport::Fuser => Ok(None),
    }
}
