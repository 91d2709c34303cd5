//! What the words of `cp` say of a path by how it ends.

use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::io::Errno;

use crate::failure::{Context, Result};

/// A path as it was typed.
pub struct Name {
    /// Absolute. One of a container's is without detours, as docker reads it.
    pub path: Vec<u8>,
    /// Its last part; the root has none.
    pub base: Vec<u8>,
    /// How it ends.
    pub end: End,
}

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In a name.
    Plain,
    /// In a slash: a directory is meant.
    Slash,
    /// In `/.`: what is in a directory is meant.
    Contents,
}

impl Name {
    /// Of a container's root, where nothing else is said.
    pub fn in_container(path: &str) -> Name {
        let clean = clean(path.as_bytes());
        Name { base: base(&clean), end: End::of(path.as_bytes(), &clean), path: clean }
    }

    /// Of the host's, below the working directory.
    pub fn on_host(path: &str) -> Result<Name> {
        let absolute = std::path::absolute(path).context(|| format!("cannot find {path}"))?;
        let clean = clean(absolute.as_os_str().as_bytes());
        let end = End::of(path.as_bytes(), &clean);
        // Whether a link is followed is said by flags, not by the path.
        let mut whole = absolute.into_os_string().into_vec();
        if end == End::Plain {
            while whole.len() > 1 && whole.last() == Some(&b'/') {
                whole.pop();
            }
        } else {
            whole.extend_from_slice(b"/.");
        }
        Ok(Name { path: whole, base: base(&clean), end })
    }

    /// For messages.
    pub fn shown(&self) -> String {
        let path = self.path.strip_suffix(b"/.").unwrap_or(&self.path);
        String::from_utf8_lossy(path).into_owned()
    }
}

impl End {
    fn of(path: &[u8], clean: &[u8]) -> End {
        match path {
            _ if clean == b"/" => End::Contents,
            b"." => End::Contents,
            path if path.ends_with(b"/.") => End::Contents,
            path if path.ends_with(b"/") => End::Slash,
            _ => End::Plain,
        }
    }
}

/// An absolute path without `.`, `..` and further slashes.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    [b"/", &parts.join(&b'/')[..]].concat()
}

fn base(clean: &[u8]) -> Vec<u8> {
    clean.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
}

/// What an error is, as docker says it.
pub fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_say_what_is_meant() {
        for (typed, path, base, end) in [
            ("/a/b", "/a/b", "b", End::Plain),
            ("a", "/a", "a", End::Plain),
            ("a/b/", "/a/b", "b", End::Slash),
            ("/a/./b//", "/a/b", "b", End::Slash),
            ("a/.", "/a", "a", End::Contents),
            (".", "/", "", End::Contents),
            ("/", "/", "", End::Contents),
            ("../../etc/x/..", "/etc", "etc", End::Plain),
        ] {
            let name = Name::in_container(typed);
            assert_eq!(
                (&name.path[..], &name.base[..], name.end),
                (path.as_bytes(), base.as_bytes(), end),
                "{typed}"
            );
        }
        assert_eq!(Name::on_host("/tmp/x/.").unwrap().shown(), "/tmp/x");
    }
}
