//! The crate `fuser` as the server: every request it knows, by its own loop.
//! Kept beside our own protocol layer as the cross-check of it, and for whom
//! ours fails.

mod adapter;
mod convert;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use crate::Union;
use adapter::Adapter;

/// A union that answers through the crate.
pub struct Session(fuser::Session<Adapter>);

impl Session {
    /// Takes the descriptor of a mount just made and greets the kernel.
    ///
    /// # Errors
    /// What reading or writing the descriptor gave, or a kernel too old.
    pub fn start(union: Arc<Union>, device: OwnedFd, threads: usize) -> io::Result<Session> {
        let mut settings = fuser::Config::default();
        settings.n_threads = Some(threads.max(1));
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
