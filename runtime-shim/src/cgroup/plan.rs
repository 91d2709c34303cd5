//! What is to be written for limits, before anything is: plain data.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::controller::Controller;
use super::file;
use crate::failure::{Failure, Result};

/// What one controller is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which.
    pub controller: Controller,
    /// In this order, but that one whose value is refused is tried again after
    /// the others: limits of which one may not exceed the other have one order
    /// for raising them and another for lowering them.
    pub writes: Vec<Write>,
    /// Limits that this version of cgroups does not have, and why.
    pub lost: Vec<(&'static str, &'static str)>,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What it is called before people.
    pub what: &'static str,
    /// File and content; of several, the first whose file exists.
    pub choices: Vec<(String, String)>,
    /// Whether all of them may be absent without a word.
    pub presence: Presence,
}

/// Whether a file has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A limit is lost without it.
    Needed,
    /// Only newer kernels have it, and older ones do not need it.
    Extra,
}

impl Plan {
    /// Nothing yet.
    pub fn new(controller: Controller) -> Plan {
        Plan { controller, writes: Vec::new(), lost: Vec::new() }
    }

    /// And this, where it is asked for.
    pub fn write(mut self, what: &'static str, file: &str, content: Option<impl ToString>) -> Plan {
        self.writes.extend(content.map(|content| Write {
            what,
            choices: vec![(file.to_owned(), content.to_string())],
            presence: Presence::Needed,
        }));
        self
    }

    /// And the first of these whose file exists.
    pub fn either(mut self, what: &'static str, choices: Option<[(&str, String); 2]>) -> Plan {
        self.writes.extend(choices.map(|choices| Write {
            what,
            choices: choices.map(|(file, content)| (file.to_owned(), content)).to_vec(),
            presence: Presence::Needed,
        }));
        self
    }

    /// And this, which is lost where it is asked for.
    pub fn lose(mut self, what: &'static str, is_asked: bool, why: &'static str) -> Plan {
        self.lost.extend(is_asked.then_some((what, why)));
        self
    }

    /// Whether anything is asked for.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.lost.is_empty()
    }

    /// What is asked for, each once.
    pub fn asked(&self) -> Vec<&'static str> {
        let written =
            self.writes.iter().filter(|write| write.presence == Presence::Needed).map(|write| write.what);
        let mut asked: Vec<_> = written.chain(self.lost.iter().map(|(what, _)| *what)).collect();
        asked.dedup();
        asked
    }

    /// Writes it to a group, and says what could not be.
    ///
    /// # Errors
    /// As [`apply`].
    pub fn apply(&self, dir: &Path) -> Result<Vec<String>> {
        let mut warnings: Vec<String> = self.lost.iter().map(|(what, why)| lost(what, why)).collect();
        warnings.extend(apply(&self.writes, dir)?);
        Ok(warnings)
    }
}

/// Writes limits to a group, and says what could not be.
///
/// # Errors
/// A value that the kernel refuses: it was not meant, or cannot be had.
pub fn apply(writes: &[Write], dir: &Path) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let mut waiting: Vec<&Write> = writes.iter().collect();
    while !waiting.is_empty() {
        let mut refused = Vec::new();
        for write in &waiting {
            match write.put(dir) {
                Ok(()) => {}
                Err(error) if is_bad_value(&error) => refused.push((*write, error)),
                Err(error)
                    if write.presence == Presence::Extra && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => warnings.push(lost(write.what, &write.reason(&error))),
            }
        }
        // None has made room for another.
        if let Some((write, error)) = refused.first().filter(|_| refused.len() == waiting.len()) {
            return Err(write.refused(dir, error));
        }
        waiting = refused.into_iter().map(|(write, _)| write).collect();
    }
    Ok(warnings)
}

impl Write {
    fn put(&self, dir: &Path) -> io::Result<()> {
        let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
        for (name, content) in &self.choices {
            result = file::write(dir, name, content);
            if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                break;
            }
        }
        result
    }

    fn first(&self) -> (&str, &str) {
        self.choices.first().map_or(("", ""), |(name, content)| (name, content))
    }

    fn reason(&self, error: &io::Error) -> String {
        let (name, _) = self.first();
        match error.kind() {
            io::ErrorKind::NotFound => format!("this kernel has no {name}"),
            _ => format!("{name}: {error}"),
        }
    }

    fn refused(&self, dir: &Path, error: &io::Error) -> Failure {
        let (name, content) = self.first();
        let failure = Failure::new(format!("cannot set the {} to {content} in {name}: {error}", self.what));
        let used = || file::read(dir, "memory.usage_in_bytes").ok();
        match Errno::from_io_error(error) {
            Some(Errno::BUSY) => match used() {
                Some(used) => {
                    failure.hint(format!("{} bytes are in use; free some, or ask for more", used.trim()))
                }
                None => failure,
            },
            Some(Errno::INVAL) if name == "memory.limit_in_bytes" => failure.hint(
                "memory limit should be smaller than already set memoryswap limit, update the memoryswap at the \
                 same time",
            ),
            Some(Errno::INVAL) if name == "cpu.rt_runtime_us" => {
                failure.hint("the groups above it give no more: raise cpu.rt_runtime_us in each of them first")
            }
            Some(Errno::NODEV | Errno::NXIO) => {
                failure.hint("it takes a whole disk that exists, not a partition")
            }
            _ => failure,
        }
    }
}

/// Whether the kernel would take another value.
fn is_bad_value(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::RANGE | Errno::NODEV | Errno::NXIO | Errno::BUSY | Errno::NOSPC)
    )
}

/// The words for a limit that was asked for and is not set.
pub fn lost(what: &str, why: &str) -> String {
    format!("cannot set the {what}: {why}")
}

#[cfg(test)]
impl Plan {
    /// Lines of `file content`, as tables of tests have them.
    pub fn table(&self) -> Vec<String> {
        let line = |(file, content): &(String, String)| format!("{file} {content}");
        let lines = |write: &Write| write.choices.iter().map(line).collect::<Vec<_>>().join(" | ");
        self.writes.iter().map(lines).collect()
    }
}
