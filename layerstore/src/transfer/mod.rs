//! Images between the store and registries.
//!
//! Each layer's bytes pass once: downloaded, verified, decompressed, hashed and
//! put into objects as they come; several layers at once. The image is there
//! when all is, and nothing before; what is here already is not asked for.

mod pull;
mod push;

pub use pull::{Pulled, pull};
pub use push::{Pushed, Pushing, push};

use crate::digest::Digest;

/// Layers that are transferred at once: as many as docker does by default.
const AT_ONCE: usize = 3;

/// What becomes of a layer, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing has to be done: it is there.
    Exists,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It begins; so many bytes will pass, if that is known.
    Starts {
        /// Compressed bytes.
        total: Option<u64>,
    },
    /// More bytes have passed.
    Passed {
        /// Since the last time.
        bytes: u64,
    },
    /// It is there now.
    Done,
}

/// Told of each step of a layer, from any thread; the digest is the one that the
/// registry knows it by, or its diff id before there is one.
pub type Watch<'w> = &'w (dyn Fn(Digest, Step) + Sync);

/// Tells of bytes as they pass.
struct Watched<'w, R> {
    from: R,
    digest: Digest,
    watch: Watch<'w>,
}

impl<R: std::io::Read> std::io::Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        (self.watch)(self.digest, Step::Passed { bytes: read as u64 });
        Ok(read)
    }
}
