//! What was typed, before it means anything: the command lines of our callers.
//!
//! | caller | its words |
//! |---|---|
//! | mount(8), by the name `mount.runionfs` | `SOURCE MNT [-sfnvrw] [-N NS] [-o …]` |
//! | mount.fuse3 (`-t fuse.runionfs`), podman, buildah | `runionfs [SOURCE] MNT -o …` in any order |
//! | people | the same with `-f`, `-d`, `--help` |
//!
//! `-f` is "fake" to mount(8) and "foreground" to fuse-overlayfs, `-s`
//! "sloppy" to one and "single-threaded" to the other: the name we were called
//! by decides. Whatever an `-o` option can say as well becomes one here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lexopt::Arg;

use crate::failure::{Failure, Result};

/// Whose words the command line is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// mount(8)'s: the program's name starts with `mount.`.
    Mount,
    /// fuse-overlayfs's: every other name.
    Direct,
}

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// `-h`, `--help`.
    Help,
    /// `-V`, `--version`.
    Version,
    /// A mount.
    Mount(Command),
}

/// A mount as it was typed.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// Whose words these are.
    pub words: Words,
    /// The first of two arguments: a name for /proc/mounts, nothing more.
    pub source: Option<OsString>,
    /// Where to mount.
    pub mountpoint: PathBuf,
    /// Each `-o`, in order, not split yet.
    pub options: Vec<OsString>,
    /// How far to go.
    pub run: Run,
    /// What is done with an option nobody knows.
    pub unknown: Unknown,
    /// mount(8)'s `-N`: the mount namespace to work in.
    pub namespace: Option<PathBuf>,
}

/// How far to go, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Return when the mount is usable; a daemon serves it.
    Background,
    /// Serve until unmounted.
    Foreground,
    /// Check everything, mount nothing.
    Fake,
}

/// What is done with an option nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is an error.
    Refuse,
    /// It is skipped: mount(8)'s `-s`.
    Skip,
}

/// The last part of the name we were called by.
pub fn program(arg0: Option<&OsStr>) -> String {
    let name = arg0.map(Path::new).and_then(Path::file_name).unwrap_or(OsStr::new("runionfs"));
    name.to_string_lossy().into_owned()
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// A usage error that names the word.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Typed> {
    let mut args = args.into_iter();
    let arg0 = args.next();
    let words = match program(arg0.as_deref()).starts_with("mount.") {
        true => Words::Mount,
        false => Words::Direct,
    };
    let mut parser = lexopt::Parser::from_args(args);
    let mut positional = Vec::new();
    let mut command = Command {
        words,
        source: None,
        mountpoint: PathBuf::new(),
        options: Vec::new(),
        run: Run::Background,
        unknown: Unknown::Refuse,
        namespace: None,
    };
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Typed::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Typed::Version),
            Arg::Short('o') | Arg::Long("options") => command.options.push(parser.value().map_err(usage)?),
            Arg::Short('r') => command.options.push("ro".into()),
            Arg::Short('w') => command.options.push("rw".into()),
            Arg::Short('N') => command.namespace = Some(parser.value().map_err(usage)?.into()),
            // The type we were called for; `-o subtype=` changes what is shown.
            Arg::Short('t') => drop(parser.value().map_err(usage)?),
            // There is no mtab to leave alone, and a mount program is silent.
            Arg::Short('n' | 'v') => {}
            Arg::Short('f') if words == Words::Mount => command.run = Run::Fake,
            Arg::Short('s') if words == Words::Mount => command.unknown = Unknown::Skip,
            Arg::Short('s') => command.options.push("threads=1".into()),
            Arg::Short('f' | 'd') | Arg::Long("foreground" | "debug") => {
                // A fake mount stays one, whatever else is asked.
                if command.run == Run::Background {
                    command.run = Run::Foreground;
                }
            }
            Arg::Value(word) => positional.push(word),
            other => return Err(usage(other.unexpected())),
        }
    }
    place(&mut command, positional)?;
    Ok(Typed::Mount(command))
}

/// One word is the mount point; of two, the first is the source.
fn place(command: &mut Command, mut words: Vec<OsString>) -> Result<()> {
    let missing = "no mount point was given";
    let asked = "usage: runionfs [SOURCE] MOUNTPOINT -o lowerdir=A:B[,upperdir=U,workdir=W]";
    let last = words.pop().ok_or_else(|| Failure::usage(missing).hint(asked))?;
    if last.as_bytes().is_empty() {
        return Err(Failure::usage("the mount point is an empty string").hint(asked));
    }
    command.mountpoint = last.into();
    command.source = words.pop();
    match words.pop() {
        Some(_) => {
            let shown = command.mountpoint.display();
            Err(Failure::usage(format!(
                "unexpected argument before {shown}: only a source and a mount point"
            )))
        }
        None => Ok(()),
    }
}

fn usage(error: lexopt::Error) -> Failure {
    Failure::usage(error.to_string()).hint("--help lists the arguments")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &[&str]) -> Command {
        match parse(line.iter().map(OsString::from)) {
            Ok(Typed::Mount(command)) => command,
            other => panic!("{line:?} gave {other:?}"),
        }
    }

    #[test]
    fn mount8_words() {
        let line = ["/sbin/mount.runionfs", "src", "/m", "-s", "-f", "-n", "-v", "-o", "ro,lowerdir=/a"];
        let command = command(&line);
        assert_eq!(command.words, Words::Mount);
        assert_eq!(command.source, Some("src".into()));
        assert_eq!(command.mountpoint, Path::new("/m"));
        assert_eq!(command.run, Run::Fake);
        assert_eq!(command.unknown, Unknown::Skip);
        assert_eq!(command.options, ["ro,lowerdir=/a"]);
    }

    #[test]
    fn podman_and_fuse_overlayfs_words() {
        for line in [
            &["/usr/bin/runionfs", "-f", "-o", "x", "/m"][..],
            &["runionfs", "-ox", "/m", "-f"],
            &["runionfs", "/m", "-d", "-o", "x"],
            &["mount-runionfs", "--debug", "/m", "-ox"],
        ] {
            let command = command(line);
            assert_eq!(command.words, Words::Direct, "{line:?}");
            assert_eq!((&command.source, command.run), (&None, Run::Foreground), "{line:?}");
            assert_eq!(command.options, ["x"], "{line:?}");
            assert_eq!(command.mountpoint, Path::new("/m"), "{line:?}");
        }
        let named = command(&["runionfs", "-orw", "-olowerdir=/a:/b", "name", "/m"]);
        assert_eq!(named.source, Some("name".into()));
        assert_eq!(named.options, ["rw", "lowerdir=/a:/b"]);
        assert_eq!(command(&["runionfs", "-s", "-r", "/m"]).options, ["threads=1", "ro"]);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (line, part) in [
            (&["runionfs"][..], "no mount point"),
            (&["runionfs", ""], "empty"),
            (&["runionfs", "a", "b", "/m"], "/m"),
            (&["runionfs", "--frobnicate", "/m"], "--frobnicate"),
            (&["runionfs", "/m", "-o"], "-o"),
            (&["runionfs", "-q", "/m"], "-q"),
        ] {
            let failure = parse(line.iter().map(OsString::from)).unwrap_err();
            assert_eq!(failure.code(), 1, "{line:?}");
            assert!(failure.to_string().contains(part), "{line:?}: {failure}");
        }
    }

    #[test]
    fn help_and_version_come_before_everything() {
        for (word, want) in [("-h", Typed::Help), ("--help", Typed::Help), ("-V", Typed::Version)] {
            assert_eq!(parse(["runionfs", word].map(OsString::from)).unwrap(), want);
        }
        assert_eq!(parse(["runionfs", "--version"].map(OsString::from)).unwrap(), Typed::Version);
    }
}
