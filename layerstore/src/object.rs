//! What an object is called: the fs-verity digest of its contents.
//!
//! fs-verity hashes a file as a tree of 4096-byte blocks
//! (Linux, Documentation/filesystems/fsverity.rst): so a kernel can verify an
//! object block by block as it is read, and names it as we do.

use std::fmt;

pub use unionfs::verity::Hash as VerityHash;

use crate::digest::{hex, unhex};

/// The fs-verity SHA-256 digest of a file: 4096-byte blocks, no salt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub [u8; 32]);

impl ObjectId {
    /// The id of these contents.
    pub fn of(contents: &[u8]) -> ObjectId {
        let mut hash = VerityHash::new();
        hash.update(contents);
        ObjectId(hash.finish())
    }

    /// 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The id written as [`ObjectId::hex`] gives it.
    pub fn from_hex(digits: &str) -> Option<ObjectId> {
        unhex(digits).map(ObjectId)
    }

    /// Where it lies below the pool: `ab/cdef…`.
    pub fn path(&self) -> String {
        let digits = self.hex();
        let (dir, file) = digits.split_at(2);
        format!("{dir}/{file}")
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl serde::Serialize for ObjectId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> serde::Deserialize<'de> for ObjectId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ObjectId, D::Error> {
        let digits = String::deserialize(deserializer)?;
        ObjectId::from_hex(&digits).ok_or_else(|| serde::de::Error::custom("no object's id"))
    }
}
