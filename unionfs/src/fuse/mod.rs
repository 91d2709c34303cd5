//! The FUSE server: requests become calls of [`crate::ops`], their values
//! replies. No decision about files is made here, and nothing outside this
//! module names the protocol crate.

mod adapter;
mod convert;
mod listings;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use crate::Union;
use adapter::Adapter;

/// How requests are served.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Threads that serve requests, at least one.
    pub threads: usize,
}

/// A union that answers on an open, mounted `/dev/fuse` descriptor.
pub struct Session(fuser::Session<Adapter>);

impl Session {
    /// Takes the descriptor of a mount just made and greets the kernel; when
    /// this returns, the mount is usable once [`Session::run`] is called.
    ///
    /// # Errors
    /// What reading or writing the descriptor gave, or a kernel too old.
    pub fn start(union: Arc<Union>, device: OwnedFd, config: SessionConfig) -> io::Result<Session> {
        let mut settings = fuser::Config::default();
        settings.n_threads = Some(config.threads.max(1));
        // Who may come in is the mount's `allow_other`; permissions are the
        // kernel's to check.
        let notifier = Arc::new(OnceLock::new());
        let adapter = Adapter::new(union, notifier.clone());
        let session = fuser::Session::from_fd(adapter, device, fuser::SessionACL::All, settings)?;
        notifier.get_or_init(|| session.notifier());
        Ok(Session(session))
    }

    /// Serves until the file system is unmounted.
    ///
    /// # Errors
    /// What broke the connection, if not an unmount.
    pub fn run(self) -> io::Result<()> {
        match self.0.run() {
            // The unmount came while a thread was taking a request over.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            result => result,
        }
    }
}
