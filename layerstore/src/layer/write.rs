//! Writes tar streams: ustar headers, and PAX headers before them for what
//! ustar cannot say (long and non-ASCII names, large owners, fractions of
//! seconds, extended attributes). The same entries give the same bytes.

use std::io::{Read, Write};

use super::entry::{Entry, EntryKind};
use super::header::{BLOCK, checksum};
use crate::error::{Context, Error, Kind, Result};
use crate::tree::Device;

/// Seven octal digits.
const SHORT_MAX: u64 = 0o7777777;
/// Eleven.
const LONG_MAX: u64 = 0o77777777777;

/// A tar stream being written.
pub struct TarWriter<W: Write> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    /// Nothing is written yet.
    pub fn new(out: W) -> TarWriter<W> {
        TarWriter { out }
    }

    /// The next entry. A file's contents are `entry.size` bytes; nothing else
    /// has any. Holes are written as zeros.
    pub fn entry(&mut self, entry: &Entry, contents: impl Read) -> Result<()> {
        let action = || format!("write {:?} into an archive", String::from_utf8_lossy(&entry.path));
        let pax = pax_records(entry).context(action)?;
        if !pax.is_empty() {
            let mut header = Ustar::new(b"PaxHeaders", b'x');
            header.number(100, 8, 0o644);
            header.number(124, 12, pax.len() as u64);
            self.block(&header.finish()).context(action)?;
            self.padded(&pax[..], pax.len() as u64).context(action)?;
        }
        self.block(&header(entry).context(action)?).context(action)?;
        if entry.kind == EntryKind::File {
            self.padded(contents, entry.size).context(action)?;
        }
        Ok(())
    }

    /// The end of the archive.
    pub fn finish(mut self) -> Result<W> {
        let written = self.out.write_all(&[0; 2 * BLOCK]).and_then(|()| self.out.flush());
        written.context(|| "write the end of an archive")?;
        Ok(self.out)
    }

    fn block(&mut self, block: &[u8; BLOCK]) -> std::io::Result<()> {
        self.out.write_all(block)
    }

    /// Contents of exactly this length, filled up to a whole block.
    fn padded(&mut self, mut contents: impl Read, len: u64) -> Result<()> {
        let copied = std::io::copy(&mut contents.by_ref().take(len), &mut self.out)?;
        if copied != len || contents.read(&mut [0])? != 0 {
            return Err(Error::new(Kind::Corrupt, format!("its contents are not {len} bytes long")));
        }
        let padding = (BLOCK - (len % BLOCK as u64) as usize) % BLOCK;
        self.out.write_all([0; BLOCK].get(..padding).unwrap_or_default())?;
        Ok(())
    }
}

/// What a PAX header must say of an entry; perhaps nothing.
fn pax_records(entry: &Entry) -> Result<Vec<u8>> {
    let mut records = Vec::new();
    let link = match &entry.kind {
        EntryKind::HardLink(target) | EntryKind::Symlink(target) => &target[..],
        _ => &[],
    };
    let names = [(&b"path"[..], &entry.path[..]), (b"linkpath", link)];
    // Names that are no UTF-8 would call for a `hdrcharset=BINARY`; readers take
    // them as they are without it, and GNU tar complains of it.
    for (key, name) in names {
        if name.contains(&0) {
            return Err(invalid("a name with a NUL"));
        }
        if name.len() > 100 || !name.is_ascii() {
            record(&mut records, key, name);
        }
    }
    let meta = &entry.meta;
    let numbers = [
        (&b"size"[..], entry.size, LONG_MAX),
        (b"uid", meta.uid.into(), SHORT_MAX),
        (b"gid", meta.gid.into(), SHORT_MAX),
    ];
    for (key, value, _) in numbers.iter().filter(|(_, value, max)| value > max) {
        record(&mut records, key, value.to_string().as_bytes());
    }
    if meta.mtime_nsec != 0 || !(0..=LONG_MAX as i64).contains(&meta.mtime) {
        record(&mut records, b"mtime", time(meta.mtime, meta.mtime_nsec).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        if name.contains(&b'=') {
            let name = String::from_utf8_lossy(name);
            return Err(invalid(format!("an extended attribute {name:?}, whose name no archive can hold")));
        }
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    Ok(records)
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(len.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

fn time(seconds: i64, nanoseconds: u32) -> String {
    let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if all < 0 { "-" } else { "" };
    let (seconds, fraction) = (all.unsigned_abs() / 1_000_000_000, all.unsigned_abs() % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{fraction:09}").trim_end_matches('0').to_owned()
}

fn header(entry: &Entry) -> Result<[u8; BLOCK]> {
    let (flag, link, device) = match &entry.kind {
        EntryKind::File => (b'0', &[][..], None),
        EntryKind::HardLink(target) => (b'1', &target[..], None),
        EntryKind::Symlink(target) => (b'2', &target[..], None),
        EntryKind::Char(device) => (b'3', &[][..], Some(device)),
        EntryKind::Block(device) => (b'4', &[][..], Some(device)),
        EntryKind::Dir => (b'5', &[][..], None),
        EntryKind::Fifo => (b'6', &[][..], None),
    };
    let mut header = Ustar::new(&entry.path, flag);
    let fitting = |value: u64, max| if value <= max { value } else { 0 };
    header.number(100, 8, (entry.meta.mode & 0o7777).into());
    header.number(108, 8, fitting(entry.meta.uid.into(), SHORT_MAX));
    header.number(116, 8, fitting(entry.meta.gid.into(), SHORT_MAX));
    header.number(124, 12, fitting(if entry.kind == EntryKind::File { entry.size } else { 0 }, LONG_MAX));
    header.number(136, 12, fitting(u64::try_from(entry.meta.mtime).unwrap_or(0), LONG_MAX));
    header.bytes(157, 100, link);
    if let Some(&Device { major, minor }) = device {
        if u64::from(major.max(minor)) > SHORT_MAX {
            return Err(invalid("a device whose number no archive can hold"));
        }
        header.number(329, 8, major.into());
        header.number(337, 8, minor.into());
    }
    Ok(header.finish())
}

/// A ustar header block (POSIX.1-1988).
struct Ustar([u8; BLOCK]);

impl Ustar {
    fn new(path: &[u8], flag: u8) -> Ustar {
        let mut header = Ustar([0; BLOCK]);
        header.bytes(0, 100, path);
        for (at, width) in [(108, 8), (116, 8), (136, 12), (329, 8), (337, 8)] {
            header.number(at, width, 0);
        }
        header.bytes(156, 1, &[flag]);
        header.bytes(257, 8, b"ustar\x0000");
        header
    }

    /// As much as the field holds; a PAX header has the rest.
    fn bytes(&mut self, at: usize, width: usize, value: &[u8]) {
        let len = value.len().min(width);
        if let (Some(field), Some(value)) = (self.0.get_mut(at..at + len), value.get(..len)) {
            field.copy_from_slice(value);
        }
    }

    /// Octal digits and a NUL.
    fn number(&mut self, at: usize, width: usize, value: u64) {
        self.bytes(at, width, format!("{value:0digits$o}\0", digits = width - 1).as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK] {
        let sum = checksum(&self.0);
        self.bytes(148, 8, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, reason)
}
