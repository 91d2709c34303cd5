//! Digests: what bytes are called, and readers and writers that compute them.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result};

/// The SHA-256 of some bytes, written `sha256:` and 64 lower-case hexadecimal
/// digits. Other algorithms are registered by the OCI image specification and
/// used by nobody; they are refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The 64 digits alone, as files are named.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Its 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest written as [`Digest::hex`] gives it.
    pub fn from_hex(digits: &str) -> Option<Digest> {
        unhex(digits).map(Digest)
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Digest> {
        text.strip_prefix("sha256:").and_then(Digest::from_hex).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("{text:?} is no digest of SHA-256"))
                .hint("a digest is \"sha256:\" and 64 lower-case hexadecimal digits")
        })
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// Passes bytes on, to be written or as they are read, and knows their digest
/// and how many there were.
pub struct Hashing<T> {
    through: T,
    hash: Sha256,
    len: u64,
}

impl<T> Hashing<T> {
    /// Nothing has passed yet.
    pub fn new(through: T) -> Hashing<T> {
        Hashing { through, hash: Sha256::new(), len: 0 }
    }

    /// How many bytes have passed.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The digest of all that has passed so far.
    pub fn digest(&self) -> Digest {
        Digest(self.hash.clone().finalize().into())
    }

    /// What was passed through, and the digest of all that passed.
    pub fn finish(self) -> (T, Digest) {
        (self.through, Digest(self.hash.finalize().into()))
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.through.read(buffer)?;
        self.passed(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.through.write(bytes)?;
        self.passed(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.through.flush()
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// 32 bytes from 64 lower-case hexadecimal digits.
pub(crate) fn unhex(digits: &str) -> Option<[u8; 32]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn other_words_are_no_digest() {
        let hex = &EMPTY["sha256:".len()..];
        for text in ["", "sha256:", hex, &EMPTY[..70], &EMPTY.to_uppercase(), &format!("sha512:{hex}{hex}")] {
            assert_eq!(text.parse::<Digest>().unwrap_err().kind(), Kind::Invalid, "{text}");
        }
    }

    #[test]
    fn what_passes_is_hashed() {
        let mut reader = Hashing::new(&b"some bytes"[..]);
        let mut copy = Hashing::new(Vec::new());
        std::io::copy(&mut reader, &mut copy).unwrap();
        assert_eq!((reader.len(), copy.len()), (10, 10));
        let (bytes, digest) = copy.finish();
        assert_eq!((&bytes[..], digest), (&b"some bytes"[..], Digest::of(b"some bytes")));
        assert_eq!(reader.finish().1, digest);
    }
}
