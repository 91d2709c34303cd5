//! What went wrong, in words for the person who typed the command.
//!
//! A failure names the object; where the user can do something about it, it
//! carries a hint. It is printed once, by whoever ends a process with it.

use std::fmt;
use std::io::{IsTerminal, Write};

use crate::output::screen;

/// A command about images failed, as docker's do.
pub const FAILED: u8 = 1;
/// `runion` itself failed, or was called wrongly.
pub const OURS: u8 = 125;
/// The command exists and cannot be run.
pub const CANNOT_RUN: u8 = 126;
/// There is no such command.
pub const NOT_FOUND: u8 = 127;

/// The code of a program that SIGPIPE ended, as shells give it.
const BROKEN_PIPE: u8 = 128 + 13;

/// A failure with its exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    /// Who says it.
    voice: &'static str,
    message: String,
    hint: Option<String>,
}

/// Results of this program.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// One of our own failures: exit code 125.
    pub fn new(message: impl Into<String>) -> Self {
        Failure { code: OURS, voice: "runion", message: message.into(), hint: None }
    }

    /// A command about images failed: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Failure::new(message).code(FAILED)
    }

    /// The same in the very words that scripts know from docker, after `Error:`.
    pub fn as_docker(message: impl Into<String>) -> Self {
        Failure { voice: "Error", ..Failure::failed(message) }
    }

    /// Nobody reads what is printed any more: no words about it.
    pub fn silent() -> Self {
        Failure::new("").code(BROKEN_PIPE)
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

    /// The same failure where a command's own exit codes begin at 0: one of ours
    /// is 125 then, whatever failed.
    pub fn before_a_command(self) -> Self {
        match self.code {
            FAILED => self.code(OURS),
            _ => self,
        }
    }

    /// Its exit code.
    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the user can do about it.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Its exit code, its message and its hint: for a process that only another
    /// one can say it for.
    pub fn parts(&self) -> (u8, &str, Option<&str>) {
        (self.code, &self.message, self.hint.as_deref())
    }

    /// Says it on stderr and gives the exit code.
    pub fn report(&self) -> u8 {
        if !self.message.is_empty() {
            say(&self.to_string());
        }
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.voice, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<layerstore::Error> for Failure {
    fn from(error: layerstore::Error) -> Failure {
        let failure = Failure::failed(error.message());
        match error.remedy() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
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
    let line = format!("{message}\n");
    let mut stderr = std::io::stderr();
    let shown = match stderr.is_terminal() {
        true => screen::harmless(line.as_bytes()),
        false => line.as_bytes().into(),
    };
    stderr.write_all(&shown).unwrap_or_default();
}
