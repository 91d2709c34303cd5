//! What went wrong, in words for the person who typed the command.
//!
//! A failure names the object; where the user can do something about it, it
//! carries a hint. It is printed once, by whoever ends a process with it.

use std::fmt;
use std::io::Write;

/// `runion` itself failed.
pub const OURS: u8 = 125;
/// The command exists and cannot be run.
pub const CANNOT_RUN: u8 = 126;
/// There is no such command.
pub const NOT_FOUND: u8 = 127;

/// A failure with its exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

/// Results of this program.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// One of our own failures: exit code 125.
    pub fn new(message: impl Into<String>) -> Self {
        Failure { code: OURS, message: message.into(), hint: None }
    }

    /// The same failure with what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with another exit code.
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Says it on stderr and gives the exit code.
    pub fn report(&self) -> u8 {
        say(&self.to_string());
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runion: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Names the action and the object of a failed system call.
pub trait Context<T> {
    /// Turns an error into a [`Failure`] that begins with `action`.
    fn context(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{}: {error}", action())))
    }
}

/// One message to stderr. A closed stderr is tolerated: there is nobody left
/// to tell, and the exit code still says it.
pub fn say(message: &str) {
    std::io::stderr().write_all(format!("{message}\n").as_bytes()).unwrap_or_default();
}
