//! One checked path component.
//!
//! Every name that reaches a system call on a layer is a [`Name`]: not empty,
//! not `.` or `..`, no slash, no NUL, at most 255 bytes. Names are bytes.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::hash::{Hash, Hasher};
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
        let mut short = [0; SHORT];
        match (short.get_mut(..self.0.len()), u8::try_from(self.0.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(self.0);
                NameBuf(Stored::Here(len, short))
            }
            _ => NameBuf(Stored::Elsewhere(self.0.into())),
        }
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", OsStr::from_bytes(self.0))
    }
}

/// The longest name that needs no memory of its own: two of three in a
/// distribution's `/usr`.
const SHORT: usize = 22;

/// One path component, owned.
#[derive(Clone)]
pub struct NameBuf(Stored);

#[derive(Clone)]
enum Stored {
    /// The first so many of these bytes.
    Here(u8, [u8; SHORT]),
    /// All of these.
    Elsewhere(Box<[u8]>),
}

// There is one for every file known.
const _: () = assert!(size_of::<NameBuf>() == 24);

impl NameBuf {
    /// As a borrowed name; it was checked when it was made.
    pub fn as_name(&self) -> Name<'_> {
        match &self.0 {
            Stored::Here(len, bytes) => Name(bytes.get(..usize::from(*len)).unwrap_or_default()),
            Stored::Elsewhere(bytes) => Name(bytes),
        }
    }
}

impl PartialEq for NameBuf {
    fn eq(&self, other: &NameBuf) -> bool {
        self.as_name() == other.as_name()
    }
}

impl Eq for NameBuf {}

impl Ord for NameBuf {
    fn cmp(&self, other: &NameBuf) -> Ordering {
        self.as_name().cmp(&other.as_name())
    }
}

impl PartialOrd for NameBuf {
    fn partial_cmp(&self, other: &NameBuf) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for NameBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_name().hash(state);
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

impl std::borrow::Borrow<[u8]> for NameBuf {
    fn borrow(&self) -> &[u8] {
        self.as_name().0
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

    #[test]
    fn an_owned_name_is_the_same_at_any_length() {
        for len in 1..=NAME_MAX {
            let bytes = vec![b'x'; len];
            let name = Name::new(&bytes).unwrap();
            assert_eq!(name.to_buf().as_name(), name);
            assert_eq!(name.to_buf(), name.to_buf().clone());
        }
    }
}
