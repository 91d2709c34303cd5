//! What a kept directory remembers about the try that filled it.
//!
//! A plain text file beside the upper, one `key=value` a line, paths with `\n`
//! and `\\` escaped. `--commit` refuses an upper whose record does not match
//! what lies below it, so the record says over what, as whom and when.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use unionfs::config::Namespace;

/// The file's name in the kept directory.
pub const FILE: &str = "runion-try";

/// The first line: what the file is, and the version of its format.
const HEAD: &str = "runion try 1";

/// Over what, as whom and when changes were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the command saw.
    pub scope: Scope,
    /// The lower directories, topmost first.
    pub lowers: Vec<PathBuf>,
    /// How the owners in the upper are to be read.
    pub owners: Owners,
    /// Where the union keeps its marks in the upper.
    pub marks: Namespace,
    /// The user who ran it.
    pub uid: u32,
    /// When it began; what changed below since then is in conflict.
    pub started: Instant,
}

/// What a view was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The host's root with everything mounted below it.
    HostRoot,
    /// The union of some directories.
    Union,
}

/// How the owners in an upper came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// By real root: they are the host's own.
    Real,
    /// By an ordinary user as himself.
    Caller,
    /// By an ordinary user as root of a user namespace: they are made up.
    Namespace,
}

/// A moment by the clock of file timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: i64,
}

impl Record {
    /// Whether a new try may go on where the recorded one ended.
    pub fn may_continue(&self, new: &Record) -> bool {
        Record { started: self.started, ..new.clone() } == *self
    }

    /// The file's contents.
    pub fn format(&self) -> Vec<u8> {
        let mut text = format!("{HEAD}\n").into_bytes();
        let mut line = |key: &str, value: &[u8]| {
            text.extend_from_slice(key.as_bytes());
            text.push(b'=');
            for &byte in value {
                match byte {
                    b'\\' => text.extend_from_slice(b"\\\\"),
                    b'\n' => text.extend_from_slice(b"\\n"),
                    byte => text.push(byte),
                }
            }
            text.push(b'\n');
        };
        line("scope", self.scope.word().as_bytes());
        for lower in &self.lowers {
            line("lower", lower.as_os_str().as_bytes());
        }
        line("owners", self.owners.word().as_bytes());
        line("marks", word(self.marks).as_bytes());
        line("uid", self.uid.to_string().as_bytes());
        line("started", format!("{}.{:09}", self.started.seconds, self.started.nanoseconds).as_bytes());
        text
    }

    /// Reads a file's contents back; `None` where they are no record.
    pub fn parse(text: &[u8]) -> Option<Record> {
        let mut lines = text.strip_suffix(b"\n")?.split(|&byte| byte == b'\n');
        if lines.next()? != HEAD.as_bytes() {
            return None;
        }
        let (mut scope, mut owners, mut marks, mut uid, mut started) = (None, None, None, None, None);
        let mut lowers = Vec::new();
        for line in lines {
            let at = line.iter().position(|&byte| byte == b'=')?;
            let value = unescape(line.get(at + 1..)?)?;
            let word = std::str::from_utf8(&value);
            match line.get(..at)? {
                b"scope" => scope = Some(Scope::from_word(word.ok()?)?),
                b"lower" => lowers.push(PathBuf::from(OsString::from_vec(value))),
                b"owners" => owners = Some(Owners::from_word(word.ok()?)?),
                b"marks" => marks = Some(from_word(word.ok()?)?),
                b"uid" => uid = Some(word.ok()?.parse().ok()?),
                b"started" => started = Some(Instant::parse(word.ok()?)?),
                _ => return None,
            }
        }
        Some(Record { scope: scope?, lowers, owners: owners?, marks: marks?, uid: uid?, started: started? })
    }
}

fn word(marks: Namespace) -> &'static str {
    match marks {
        Namespace::Trusted => "trusted",
        Namespace::User => "user",
    }
}

fn from_word(text: &str) -> Option<Namespace> {
    [Namespace::Trusted, Namespace::User].into_iter().find(|marks| word(*marks) == text)
}

fn unescape(value: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = value.iter();
    let mut plain = Vec::with_capacity(value.len());
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(plain)
}

impl Scope {
    fn word(self) -> &'static str {
        match self {
            Scope::HostRoot => "host-root",
            Scope::Union => "union",
        }
    }

    fn from_word(word: &str) -> Option<Scope> {
        [Scope::HostRoot, Scope::Union].into_iter().find(|scope| scope.word() == word)
    }
}

impl Owners {
    fn word(self) -> &'static str {
        match self {
            Owners::Real => "real",
            Owners::Caller => "caller",
            Owners::Namespace => "namespace",
        }
    }

    fn from_word(word: &str) -> Option<Owners> {
        [Owners::Real, Owners::Caller, Owners::Namespace].into_iter().find(|owners| owners.word() == word)
    }
}

impl Instant {
    fn parse(word: &str) -> Option<Instant> {
        let (seconds, nanoseconds) = word.split_once('.')?;
        Some(Instant { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_whatever_the_paths_are() {
        let record = Record {
            scope: Scope::Union,
            lowers: vec![OsString::from_vec(b"/a\n=b\\n\xff".to_vec()).into(), "/".into()],
            owners: Owners::Namespace,
            marks: Namespace::User,
            uid: 1000,
            started: Instant { seconds: 17, nanoseconds: 5 },
        };
        assert_eq!(Record::parse(&record.format()), Some(record));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in
            ["", "runion try 1", "runion try 2\n", "runion try 1\nscope=union\n", "runion try 1\nx=y\n"]
        {
            assert_eq!(Record::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
