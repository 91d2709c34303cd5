//! Data that must be what its metadata says: the digests in images and in
//! metacopies, as kernel overlayfs's `verity` option has it.
//!
//! Whoever opens data that lies elsewhere asks here, with the descriptor the data
//! is then read by. Of a sealed file the kernel tells the digest, and verifies
//! what is read. Of others all bytes are read: once, as long as it is remembered
//! and the file is the same.

use std::collections::HashSet;
use std::fmt;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::file_of;
use crate::Union;
use crate::config::Verity;
use crate::error::{Error, Result};
use crate::image::Contents;
use crate::inode::{Access, FileState, Inode};
use crate::object::Object;
use crate::ondisk::marks;
use crate::sync::Mutex;
use crate::sys::at::{self, Time};
use crate::verity::{self, Digest, Measured};

/// What a file's data must be.
pub(super) struct Expected {
    digest: Option<Digest>,
    /// What messages call the data.
    name: String,
}

impl Expected {
    fn refused(&self, why: impl fmt::Display) -> Error {
        Error::new(Errno::IO, format!("{} {why}", self.name))
    }
}

/// Files whose bytes were found to be what they must be.
#[derive(Default)]
pub struct Verified(Mutex<HashSet<Seen>>);

/// A file as it was when its bytes were read: each write gives it another time.
#[derive(PartialEq, Eq, Hash)]
struct Seen {
    dev: u64,
    ino: u64,
    changed: (i64, u32),
    digest: Digest,
}

/// So many files are remembered, in some 8 MB; then all are forgotten.
const MOST_SEEN: usize = 1 << 16;

impl Verified {
    fn digest_of(&self, file: &OwnedFd, expected: Digest) -> Result<Digest> {
        let stat = at::stat_fd(file)?;
        let Time { sec, nsec } = stat.ctime;
        let seen = Seen { dev: stat.dev, ino: stat.ino, changed: (sec, nsec), digest: expected };
        if self.0.lock().contains(&seen) {
            return Ok(expected);
        }
        let found = verity::digest_of(file)?;
        if found == expected {
            let mut all = self.0.lock();
            if all.len() >= MOST_SEEN {
                all.clear();
            }
            all.insert(seen);
        }
        Ok(found)
    }
}

impl Union {
    /// What the data of a file must be, whose lock the caller holds; nothing where
    /// the file has its data itself.
    ///
    /// # Errors
    /// `EIO` for a digest that is none, or what reading it gave.
    pub(super) fn expected(&self, state: &FileState) -> Result<Option<Expected>> {
        if self.config.verity == Verity::Off {
            return Ok(None);
        }
        let Some(data) = state.data() else { return self.with_place(state, in_image) };
        let own = self.with_place(state, |file| marks::digest(file, self.config.namespace))?;
        let below = data.with(&self.layers.fds, |file| match file {
            Object::Image(..) => in_image(file),
            Object::Real(_) => Ok(Some(Expected {
                digest: None,
                name: format!("the data of {:?} in layer {}", data.name, data.dir.layer),
            })),
        })?;
        Ok(below.map(|below| Expected { digest: own.or(below.digest), ..below }))
    }

    /// Compares data, just opened, with what it must be. No lock is held: all of it
    /// may have to be read.
    ///
    /// # Errors
    /// `EIO` for what is something else, and where the mount requires more than the
    /// file has.
    pub(super) fn verify(&self, file: &OwnedFd, expected: &Expected) -> Result<()> {
        let is_required = self.config.verity == Verity::Require;
        let Some(digest) = expected.digest else {
            let why = "has no digest in its metadata\nhint: mount with verity=on, which takes data without";
            return if is_required { Err(expected.refused(why)) } else { Ok(()) };
        };
        let found = match verity::measure(file)? {
            Measured::Sealed(found) => found,
            Measured::NotOffered if is_required => {
                let why = "is on a file system without fs-verity\nhint: mount with verity=on, which reads it";
                return Err(expected.refused(why));
            }
            Measured::Unsealed if is_required => {
                let why = "is not sealed by fs-verity\nhint: `runion fsck --repair` seals the objects of \
                           images; verity=on takes others, and reads them";
                return Err(expected.refused(why));
            }
            Measured::Unsealed | Measured::NotOffered => self.verified.digest_of(file, digest)?,
        };
        if found == digest {
            return Ok(());
        }
        let (found, digest) = (hex(&found), hex(&digest));
        let why = format!(
            "has the digest {found} and should have {digest}\nhint: `runion fsck --repair` takes objects \
             of images that are damaged away"
        );
        Err(expected.refused(why))
    }

    /// The digest that a metacopy about to be made keeps of its data: what the
    /// data's present metadata has, or what the kernel holds the data to.
    ///
    /// # Errors
    /// What reading or opening gave.
    pub(super) fn digest_to_keep(&self, inode: &Inode) -> Result<Option<Digest>> {
        if self.config.verity == Verity::Off {
            return Ok(None);
        }
        let expected = self.expected(&file_of(inode)?.state.read())?;
        if let Some(digest) = expected.and_then(|expected| expected.digest) {
            return Ok(Some(digest));
        }
        match verity::measure(self.open_data(inode, Access::Read)?)? {
            Measured::Sealed(digest) => Ok(Some(digest)),
            Measured::Unsealed | Measured::NotOffered => Ok(None),
        }
    }
}

/// What an object must be that an image has a file's data in.
fn in_image(file: Object<'_>) -> Result<Option<Expected>> {
    let Object::Image(image, Some(nid)) = file else { return Ok(None) };
    match image.index.contents(nid)? {
        Contents::Object { path, digest, .. } => Ok(Some(Expected {
            digest: digest.copied(),
            name: format!("the object {}", String::from_utf8_lossy(path)),
        })),
        Contents::Inline(_) | Contents::Hole { .. } => Ok(None),
    }
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
