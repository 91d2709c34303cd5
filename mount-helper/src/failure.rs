//! What is told to the person, or the program, that asked for a mount.
//!
//! A failure is one sentence that names the object, perhaps a hint, and the
//! exit code that mount(8) documents for its kind. It crosses from the daemon
//! to the process the caller waits for, hence [`Failure::to_bytes`].

use std::fmt;

/// Why nothing was mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// The kinds mount(8) tells apart; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for makes no sense: an unknown option, a missing argument.
    Usage = 1,
    /// The system has no process, pipe or signal to spare.
    System = 2,
    /// The mount itself failed: a directory, the device, the kernel.
    Mount = 32,
}

/// Results of this program.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure of the first kind.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { kind: Kind::Usage, message: message.into(), hint: None }
    }

    /// A failure of the second kind, from what the system said about an action.
    pub fn system(action: impl fmt::Display, error: impl Into<std::io::Error>) -> Self {
        Failure { kind: Kind::System, message: format!("{action}: {}", plain(&error.into())), hint: None }
    }

    /// A failure to mount.
    pub fn mount(message: impl Into<String>) -> Self {
        Failure { kind: Kind::Mount, message: message.into(), hint: None }
    }

    /// A failure to mount, from what the system said about an action.
    pub fn refused(action: impl fmt::Display, error: impl Into<std::io::Error>) -> Self {
        Failure::mount(format!("{action}: {}", plain(&error.into())))
    }

    /// The same with advice.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.kind as u8
    }

    /// For [`Failure::from_bytes`] in another process: code, message, and the
    /// hint after a NUL, which no sentence has.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.code()];
        bytes.extend_from_slice(self.message.replace('\0', "?").as_bytes());
        if let Some(hint) = &self.hint {
            bytes.push(0);
            bytes.extend_from_slice(hint.as_bytes());
        }
        bytes
    }

    /// What [`Failure::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&code, text) = bytes.split_first()?;
        let kind = [Kind::Usage, Kind::System, Kind::Mount].into_iter().find(|&kind| kind as u8 == code)?;
        let text = String::from_utf8_lossy(text);
        let (message, hint) = match text.split_once('\0') {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (text.into_owned(), None),
        };
        Some(Failure { kind, message, hint })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The system's words without Rust's "(os error N)", in lower case as all our
/// messages are.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::from("failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crosses_a_pipe_unchanged() {
        let plain = Failure::mount("lower /a does not exist");
        let hinted = Failure::usage("unknown option quiet").hint("did you mean silent?");
        for failure in [plain, hinted] {
            assert_eq!(Failure::from_bytes(&failure.to_bytes()), Some(failure));
        }
        assert_eq!(Failure::from_bytes(b""), None);
        assert_eq!(Failure::from_bytes(b"\x07what"), None);
    }

    #[test]
    fn system_words_are_lower_case_and_plain() {
        let failure = Failure::refused("cannot open /x", rustix::io::Errno::NOENT);
        assert_eq!(failure.to_string(), "cannot open /x: no such file or directory");
        assert_eq!(failure.code(), 32);
    }
}
