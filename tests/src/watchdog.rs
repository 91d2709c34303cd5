//! A dead man's switch for one FUSE mount.
//!
//! A daemon that no longer answers blocks its callers in the kernel, where no
//! signal short of SIGKILL reaches them. The watchdog aborts the connection
//! through fusectl, which fails every waiting request, so that the test fails
//! in place of hanging.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Aborts a FUSE connection unless it is told in time that all is well.
pub struct Watchdog {
    orders: Option<Sender<Duration>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches the FUSE mount whose device number is `0:minor`; the connection
    /// is aborted after `limit`, unless [`Watchdog::extend`]ed or dropped.
    ///
    /// # Errors
    /// Those of mounting fusectl.
    pub fn new(minor: u32, limit: Duration) -> io::Result<Watchdog> {
        if !Path::new(CONNECTIONS).join(minor.to_string()).exists() {
            mount("fusectl", CONNECTIONS, "fusectl", MountFlags::empty(), None)?;
        }
        let abort = Path::new(CONNECTIONS).join(minor.to_string()).join("abort");
        let (orders, received) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("watchdog-{minor}"))
            .spawn(move || watch(&received, &abort, limit))?;
        Ok(Watchdog { orders: Some(orders), thread: Some(thread) })
    }

    /// Grants `limit` from now.
    pub fn extend(&self, limit: Duration) {
        // The thread ends early only after it has aborted: nothing to extend.
        if let Some(orders) = &self.orders {
            orders.send(limit).ok();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the watchdog panicked");
        }
    }
}

fn watch(orders: &Receiver<Duration>, abort: &PathBuf, limit: Duration) {
    let mut deadline = Instant::now() + limit;
    loop {
        match orders.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(limit) => deadline = Instant::now() + limit,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("watchdog: the mount did not answer in time: aborted through {}", abort.display());
                if let Err(error) = fs::write(abort, "1") {
                    eprintln!("watchdog: cannot abort: {error}");
                }
                return;
            }
        }
    }
}
