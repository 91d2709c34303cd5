//! fs-verity: the digest of a file, and files that the kernel holds to theirs.
//!
//! A sealed file can be changed by nobody any more, and what the disk gives back
//! of it is verified page by page as it is read: its digest, which the kernel
//! tells without reading, then is that of its bytes. Everything here is SHA-256
//! over blocks of 4096 bytes without a salt, as images name their objects.

mod hash;

use std::os::fd::AsFd;

use rustix::io::{Errno, Result};

pub use crate::sys::verity::{Measured, Sealed, is_offered, measure, seal};
pub use hash::Hash;

/// The fs-verity SHA-256 digest of a file: 4096-byte blocks, no salt.
pub type Digest = [u8; 32];

/// The digest of a file's bytes, all of which are read.
///
/// # Errors
/// What reading gave; `EIO` for a sealed file whose bytes are others on disk.
pub fn digest_of(file: impl AsFd) -> Result<Digest> {
    let mut hash = Hash::new();
    let (mut buffer, mut offset) = (vec![0; 1 << 17], 0);
    loop {
        match rustix::io::pread(&file, &mut buffer, offset) {
            Ok(0) => return Ok(hash.finish()),
            Ok(read) => {
                hash.update(buffer.get(..read).unwrap_or_default());
                offset += read as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
