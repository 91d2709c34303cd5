//! The kernel's switch for FUSE over io_uring.

use std::fs;
use std::io;

use crate::errors::at;

const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// While this lives the switch is on; then it is what it was.
pub struct Enabled {
    before: String,
}

impl Enabled {
    /// Turns it on.
    ///
    /// # Errors
    /// The kernel has no such switch, or its owner is somebody else.
    pub fn new() -> io::Result<Enabled> {
        let before = fs::read_to_string(SWITCH).map_err(|e| at(SWITCH.as_ref(), e))?;
        fs::write(SWITCH, "Y").map_err(|e| at(SWITCH.as_ref(), e))?;
        Ok(Enabled { before: before.trim().to_owned() })
    }
}

impl Drop for Enabled {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.before) {
            eprintln!("cannot put back {} in {SWITCH}: {error}", self.before);
        }
    }
}
