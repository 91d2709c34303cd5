//! Signals that mean "unmount": a daemon must not die under its mount.

use crate::failure::{Failure, Result};
use crate::mount::Mounted;
use crate::sys::Held;

/// The signals that ask a daemon to end.
const ENDING: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Ending signals, kept back while there may be half a mount.
pub struct Signals(Held);

impl Signals {
    /// Keeps ending signals back from now on.
    ///
    /// # Errors
    /// What the system said.
    pub fn hold() -> Result<Signals> {
        Held::hold(&ENDING).map(Signals).map_err(|error| Failure::system("cannot hold signals", error))
    }

    /// From now on the first of them unmounts, which ends the session when the
    /// last user has gone; the second ends the process.
    ///
    /// # Errors
    /// What the system said to a new thread.
    pub fn unmount(self, mounted: Mounted) -> Result<()> {
        let wait = move || {
            for then in [Then::Unmount, Then::Exit] {
                match (self.0.wait(), then) {
                    (Ok(_), Then::Unmount) => mounted.unmount_reporting(),
                    (Ok(signal), Then::Exit) => std::process::exit(128 + signal),
                    (Err(error), _) => return eprintln!("runionfs: cannot wait for signals: {error}"),
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(wait);
        thread.map(drop).map_err(|error| Failure::system("cannot start a thread", error))
    }
}

#[derive(Clone, Copy)]
enum Then {
    Unmount,
    Exit,
}
