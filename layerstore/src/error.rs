//! What went wrong in the store, in words.
//!
//! An error names the action and the object; where the user can do something
//! about it, it carries a hint. [`Kind`] is what programs decide by.

use std::fmt;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for is not here, or not there.
    NotFound,
    /// It may not be had or done: no such credentials, no such permission.
    Denied,
    /// What was given is malformed: a reference, an archive, a document.
    Invalid,
    /// Bytes are not what their digest says, or the store's own files are broken.
    Corrupt,
    /// More than a limit allows; the message names the limit.
    Limit,
    /// Something else holds or refers to it.
    InUse,
    /// The system failed: a disk, a network, a descriptor too many.
    System,
}

/// An error of the store.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error in a sentence: lower case, no full stop, the object named.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), hint: None }
    }

    /// The same error with what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, with what was being done before it.
    pub fn context(mut self, action: impl fmt::Display) -> Error {
        self.message = format!("{action}: {}", self.message);
        self
    }

    /// What programs decide by.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The sentence, without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the user can do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// What helps where a disk is full, whichever it is.
const NO_ROOM: &str = "make room there; in the store `runion prune` removes what no image needs";

impl From<std::io::Error> for Error {
    /// An error of ours that went through a reader or a writer comes back as it was.
    fn from(error: std::io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(error) => {
                let ours = Error::new(kind_of(&error), plain(&error));
                match error.kind() {
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ours.hint(NO_ROOM),
                    _ => ours,
                }
            }
        }
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Error {
        std::io::Error::from(errno).into()
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        std::io::Error::other(error)
    }
}

fn kind_of(error: &std::io::Error) -> Kind {
    match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::System,
    }
}

/// An error of the system in words, without its number.
fn plain(error: &std::io::Error) -> String {
    let words = error.to_string();
    let end = words.rfind(" (os error").unwrap_or(words.len());
    words[..end].to_owned()
}

/// Names the action and the object of what failed.
pub trait Context<T> {
    /// The error, with what was being done before it.
    fn context<D: fmt::Display>(self, action: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<D: fmt::Display>(self, action: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().context(action()))
    }
}
