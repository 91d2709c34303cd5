//! One checked path component.
//!
//! Every name that reaches a system call on a layer is a [`Name`]: not empty,
//! not `.` or `..`, no slash, no NUL, at most 255 bytes. Names are bytes.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

/// The longest component Linux file systems take, in bytes.
pub const NAME_MAX: usize = 255;

/// One path component, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks bytes that came from outside.
    ///
    /// # Errors
    /// `ENAMETOOLONG` over 255 bytes, `EINVAL` for what is not one component.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        if bytes.len() > NAME_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let special = bytes.is_empty() || bytes == b"." || bytes == b"..";
        if special || bytes.iter().any(|&b| b == b'/' || b == 0) {
            return Err(Errno::INVAL);
        }
        Ok(Name(bytes))
    }

    /// Checks a name of the operating system's.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub fn from_os(name: &'a OsStr) -> Result<Self, Errno> {
        Name::new(name.as_bytes())
    }

    /// The bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// An owned copy.
    pub fn to_buf(self) -> NameBuf {
        NameBuf(self.0.into())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", OsStr::from_bytes(self.0))
    }
}

/// One path component, owned.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameBuf(Box<[u8]>);

impl NameBuf {
    /// As a borrowed name; it was checked when it was made.
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

impl std::borrow::Borrow<[u8]> for NameBuf {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_component_is_a_name() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
            assert_eq!(Name::new(bad).unwrap_err(), Errno::INVAL, "{bad:?}");
        }
        assert_eq!(Name::new(&[b'x'; 256]).unwrap_err(), Errno::NAMETOOLONG);
        for good in [&b"..."[..], b"\xff\xfe", b" ", &[b'x'; 255]] {
            assert_eq!(Name::new(good).unwrap().bytes(), good);
        }
    }
}
