//! Errors: an errno for the kernel, and a cause for the person who reads logs.
//!
//! The hot paths (`ENOENT` above all) allocate nothing: an [`Error`] is an
//! errno and an optional boxed cause. `?` turns rustix's errno into one.

use std::fmt;

use rustix::io::Errno;

/// A failed operation: what the kernel is told, and why.
pub struct Error {
    errno: Errno,
    cause: Option<Box<str>>,
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a sentence that names the action and the object.
    pub fn new(errno: Errno, cause: impl Into<String>) -> Self {
        Error { errno, cause: Some(cause.into().into_boxed_str()) }
    }

    /// The errno the kernel is told.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The sentence, where there is one.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The same errno with a sentence put before what is known.
    pub fn context(self, action: impl fmt::Display) -> Self {
        let cause = match self.cause {
            Some(cause) => format!("{action}: {cause}"),
            None => format!("{action}: {}", self.errno),
        };
        Error { errno: self.errno, cause: Some(cause.into_boxed_str()) }
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error { errno, cause: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => f.write_str(cause),
            None => write!(f, "{}", self.errno),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}", self.errno)?;
        if let Some(cause) = &self.cause {
            write!(f, ", {cause:?}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for Error {}

/// The three answers a probe can give: there, not there, or broken.
pub trait Absent<T> {
    /// `ENOENT` as `None`; every other error stays one.
    fn absent(self) -> Result<Option<T>>;
    /// "No such attribute", in each of the forms file systems have for it, as
    /// `None`; every other error stays one.
    fn no_attribute(self) -> Result<Option<T>>;
}

impl<T> Absent<T> for rustix::io::Result<T> {
    fn absent(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn no_attribute(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            // A symlink or device cannot carry `user.*`: reading says EPERM on
            // some kernels, ENODATA on others.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::NOSYS) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}
