//! A union file system: read-only lower layers under one writable upper, with
//! copy-on-write and whiteouts, on disk interchangeable with kernel overlayfs.

// Until the engine uses all of them.
#[allow(dead_code)]
mod acl;
pub mod changes;
pub mod config;
pub mod error;
pub mod fuse;
#[allow(dead_code)]
mod ids;
pub mod name;
#[allow(dead_code)]
mod ondisk;
#[allow(dead_code)]
mod sys;

pub use config::Config;
pub use error::{Error, Result};

/// One union: its layers and everything known about them.
pub struct Union {
    _config: Config,
}

impl Union {
    /// Opens the layers, checks them against each other and readies the
    /// working directory.
    ///
    /// # Errors
    /// A sentence that names the directory: missing, not a directory,
    /// overlapping another, upper and work on different file systems, or an
    /// upper that another union holds.
    pub fn open(config: Config) -> Result<Union> {
        Ok(Union { _config: config })
    }
}
