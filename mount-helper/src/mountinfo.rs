//! /proc/self/mountinfo: which mounts there are in this namespace.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Major and minor number of the file system.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub path: PathBuf,
    /// Options of the mount, then of the file system, comma-separated.
    pub options: String,
    /// The type, `fuse.runionfs`.
    pub kind: String,
}

/// The mounts, in the order in which they were made: of those on one path, the
/// last is seen.
///
/// # Errors
/// Those of reading /proc.
pub fn entries() -> std::io::Result<Vec<Entry>> {
    let content = std::fs::read("/proc/self/mountinfo")?;
    Ok(content.split(|&b| b == b'\n').filter_map(entry).collect())
}

/// A line: `id parent major:minor root path options [fields…] - type source options`.
fn entry(line: &[u8]) -> Option<Entry> {
    let mut words = line.split(|&b| b == b' ');
    let device = std::str::from_utf8(words.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let path = unescape(words.nth(1)?);
    let mount_options = words.next()?;
    let mut after = words.skip_while(|&word| word != b"-").skip(1);
    let kind = after.next()?;
    let options = [mount_options, b",", after.nth(1)?].concat();
    Some(Entry {
        device: (major.parse().ok()?, minor.parse().ok()?),
        path: OsString::from_vec(path).into(),
        options: String::from_utf8_lossy(&options).into_owned(),
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

/// Blanks and backslashes are written as `\` and three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line =
            b"36 35 98:17 /mnt1 /m\\040nt\\1342 rw,noatime shared:1 master:2 - fuse.x /dev/root rw,errors=y";
        let want = Entry {
            device: (98, 17),
            path: "/m nt\\2".into(),
            options: "rw,noatime,rw,errors=y".into(),
            kind: "fuse.x".into(),
        };
        assert_eq!(entry(line), Some(want));
        assert_eq!(entry(b""), None);
        assert!(entries().unwrap().iter().any(|entry| entry.path == std::path::Path::new("/proc")));
    }
}
