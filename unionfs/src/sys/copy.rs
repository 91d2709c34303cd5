//! The data of one file into another, as cheaply as the file systems allow.
//!
//! A shared extent (`FICLONE`) costs nothing. Else the data segments are copied
//! inside the kernel: by `copy_file_range(2)`, or between two kinds of file
//! system, for which that is not, by `sendfile(2)` from page cache to page cache,
//! as kernel overlayfs does it. Where neither goes, through a buffer. Holes stay
//! holes. Both descriptors must be private to the caller: their positions move.
//!
//! Nothing here makes the copy durable or gives it a name.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::SeekFrom;
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, Result};

/// How much one system call may copy: enough to make its cost vanish, and little
/// enough for a signal to be noticed.
const RANGE_MAX: u64 = 64 << 20;

/// The buffer where the kernel cannot copy by itself: larger ones are no faster.
const BUFFER: usize = 256 << 10;

/// Copies the first `len` bytes of `from` to the empty file `to`, which is `len`
/// bytes long afterwards.
///
/// # Errors
/// `EIO`, naming the source, if it has become shorter than `len`; else what
/// reading and writing say (`ENOSPC`, `EDQUOT`, `EIO`).
pub fn copy_data(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: u64) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => return fit_clone(from, to, len),
        Err(errno) if is_final(errno) => return Err(errno.into()),
        // No shared extents here.
        Err(_) => {}
    }
    let mut copier = Copier { from, to, way: Way::Range };
    let mut written = 0;
    while let Some(segment) = next_data(from, written, len)? {
        copier.copy(segment.start, segment.end)?;
        written = segment.end;
    }
    if written < len {
        // The tail is a hole, or the source ended early; only the first is right.
        if size(from)? < len {
            return Err(became_shorter(from, len));
        }
        rustix::fs::ftruncate(to, len)?;
    }
    Ok(())
}

/// A clone is as long as the source was at that moment.
fn fit_clone(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: u64) -> Result<()> {
    let cloned = size(to)?;
    if cloned < len {
        return Err(became_shorter(from, len));
    }
    if cloned > len {
        rustix::fs::ftruncate(to, len)?;
    }
    Ok(())
}

/// The next stretch of data at or after `position`, cut off at `len`; `None`
/// where only a hole is left. A file system that knows no holes is all data.
fn next_data(from: BorrowedFd<'_>, position: u64, len: u64) -> Result<Option<std::ops::Range<u64>>> {
    if position >= len {
        return Ok(None);
    }
    let start = match rustix::fs::seek(from, SeekFrom::Data(position)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(position..len)),
        Err(errno) => return Err(errno.into()),
    };
    if start >= len {
        return Ok(None);
    }
    let end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
    Ok(Some(start..end.min(len)))
}

/// How the bytes go over; once the kernel has refused one, it is not asked again.
enum Way {
    /// By `copy_file_range`.
    Range,
    /// By `sendfile`.
    Pages,
    Buffer(Vec<u8>),
}

struct Copier<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    way: Way,
}

impl Copier<'_> {
    /// Copies `start..end`, all of it.
    fn copy(&mut self, start: u64, end: u64) -> Result<()> {
        let mut position = start;
        while position < end {
            let copied = match &mut self.way {
                Way::Range => in_kernel(end - position, |len| range(self.from, self.to, position, len))?,
                Way::Pages => in_kernel(end - position, |len| pages(self.from, self.to, position, len))?,
                Way::Buffer(buffer) => match through(buffer, self.from, self.to, position, end)? {
                    0 => return Err(became_shorter(self.from, end)),
                    copied => Some(copied),
                },
            };
            match (copied, &self.way) {
                (Some(copied), _) => position += copied,
                (None, Way::Range) => self.way = Way::Pages,
                (None, _) => self.way = Way::Buffer(vec![0; BUFFER]),
            }
        }
        Ok(())
    }
}

/// Has one system call copy as much of `len` bytes as it may; `None` where another
/// way must be taken. "Nothing copied" is also such an answer: some file systems
/// say so instead of failing, and a plain read then tells whether the file has
/// really ended.
fn in_kernel(len: u64, copy: impl Fn(usize) -> rustix::io::Result<usize>) -> Result<Option<u64>> {
    let len = usize::try_from(len.min(RANGE_MAX)).unwrap_or(BUFFER);
    match retry_on_intr(|| copy(len)) {
        Ok(0) => Ok(None),
        Ok(copied) => Ok(Some(copied as u64)),
        Err(errno) if is_final(errno) => Err(errno.into()),
        Err(_) => Ok(None),
    }
}

fn range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, position: u64, len: usize) -> rustix::io::Result<usize> {
    let (mut source, mut target) = (position, position);
    rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), len)
}

fn pages(from: BorrowedFd<'_>, to: BorrowedFd<'_>, position: u64, len: usize) -> rustix::io::Result<usize> {
    // It writes where the target stands.
    rustix::fs::seek(to, SeekFrom::Start(position))?;
    let mut source = position;
    rustix::fs::sendfile(to, from, Some(&mut source), len)
}

/// One buffer of bytes, read and written in full; the number read.
fn through(
    buffer: &mut [u8],
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    position: u64,
    end: u64,
) -> Result<u64> {
    let chunk = usize::try_from(end - position).unwrap_or(usize::MAX).min(buffer.len());
    let read = retry_on_intr(|| rustix::io::pread(from, &mut buffer[..chunk], position))?;
    let mut rest = &buffer[..read];
    let mut at = position;
    while !rest.is_empty() {
        let written = retry_on_intr(|| rustix::io::pwrite(to, rest, at))?;
        if written == 0 {
            return Err(Error::new(Errno::IO, "copy: the target takes no more bytes"));
        }
        rest = rest.get(written..).unwrap_or_default();
        at += written as u64;
    }
    Ok(read as u64)
}

/// Errors that another way of copying would meet again. Every other answer of
/// `FICLONE`, `copy_file_range` or `sendfile` means "not with these two files".
fn is_final(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::FBIG | Errno::NOMEM | Errno::BADF)
}

fn size(fd: BorrowedFd<'_>) -> Result<u64> {
    Ok(u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0))
}

fn became_shorter(from: BorrowedFd<'_>, len: u64) -> Error {
    let link = format!("/proc/self/fd/{}", from.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new());
    let name = path.map_or_else(|_| "the file".into(), |path| path.to_string_lossy().into_owned());
    Error::new(Errno::IO, format!("copy {name}: it became shorter than {len} bytes while it was read"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;
    use crate::sys::scratch::Scratch;

    const MIB: u64 = 1 << 20;

    /// Files as (length, stretches of data).
    fn shapes() -> Vec<(u64, Vec<(u64, u64)>)> {
        vec![
            (0, vec![]),
            (1, vec![(0, 1)]),
            (4095, vec![(0, 4095)]),
            (4097, vec![(0, 4097)]),
            (MIB + 1, vec![(0, MIB + 1)]),
            (3 * MIB, vec![]),
            (3 * MIB, vec![(0, 10)]),
            (3 * MIB, vec![(MIB, MIB / 2)]),
            (3 * MIB, vec![(3 * MIB - 7, 7)]),
            (5 * MIB + 3, vec![(0, 4096), (MIB, 8192), (4 * MIB + 5, 100), (5 * MIB, 3)]),
        ]
    }

    fn make(path: &std::path::Path, len: u64, data: &[(u64, u64)]) -> File {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(len).unwrap();
        for (seed, &(start, count)) in data.iter().enumerate() {
            let bytes: Vec<u8> = (0..count).map(|n| (n * 31 + seed as u64 + 1) as u8 | 1).collect();
            file.write_all_at(&bytes, start).unwrap();
        }
        file.sync_all().unwrap();
        file
    }

    #[test]
    fn bytes_length_and_holes_are_the_same() {
        let sources = Scratch::on_each_file_system("copy");
        let targets = Scratch::on_each_file_system("copy");
        for (s, source) in sources.iter().enumerate() {
            for (n, (len, data)) in shapes().into_iter().enumerate() {
                let from_path = source.path().join(format!("{n}"));
                let from = make(&from_path, len, &data);
                for (t, target) in targets.iter().enumerate() {
                    let to_path = target.path().join(format!("{n}-{s}"));
                    let to = File::options().write(true).create_new(true).open(&to_path).unwrap();
                    copy_data(from.as_fd(), to.as_fd(), len).unwrap();
                    to.sync_all().unwrap();
                    let case = format!("shape {n}, from {s} to {t}");
                    assert!(std::fs::read(&from_path).unwrap() == std::fs::read(&to_path).unwrap(), "{case}");
                    let (was, is) = (from.metadata().unwrap().blocks(), to.metadata().unwrap().blocks());
                    // One block at most for what the file systems round differently.
                    assert!(is <= was + 8, "{case}: {is} blocks of 512 bytes, not {was}");
                }
            }
        }
    }

    #[test]
    fn each_way_copies_what_the_others_would() {
        let dir = Scratch::new("copy");
        let from = make(&dir.path().join("from"), 2 * MIB, &[(5, MIB + 300_000)]);
        for (n, way) in [Way::Range, Way::Pages, Way::Buffer(vec![0; BUFFER])].into_iter().enumerate() {
            let path = dir.path().join(format!("to-{n}"));
            let to = File::options().write(true).read(true).create_new(true).open(&path).unwrap();
            let before = std::mem::discriminant(&way);
            let mut copier = Copier { from: from.as_fd(), to: to.as_fd(), way };
            copier.copy(MIB + 300_005, 2 * MIB).unwrap();
            copier.copy(5, MIB + 300_005).unwrap();
            assert_eq!(std::mem::discriminant(&copier.way), before, "way {n} was left");
            assert!(
                std::fs::read(dir.path().join("from")).unwrap() == std::fs::read(path).unwrap(),
                "way {n}"
            );
        }
    }

    #[test]
    fn only_the_first_bytes_are_taken() {
        let dir = Scratch::new("copy");
        let from = make(&dir.path().join("from"), MIB, &[(0, MIB)]);
        let to_path = dir.path().join("to");
        let to = File::create(&to_path).unwrap();
        copy_data(from.as_fd(), to.as_fd(), 5000).unwrap();
        assert!(std::fs::read(to_path).unwrap() == std::fs::read(dir.path().join("from")).unwrap()[..5000]);
    }

    #[test]
    fn a_source_that_became_shorter_is_named() {
        let dir = Scratch::new("copy");
        for (name, data) in [("full", vec![(0, 5000)]), ("holes", vec![])] {
            let from = make(&dir.path().join(name), 5000, &data);
            let to = File::create(dir.path().join("to")).unwrap();
            let error = copy_data(from.as_fd(), to.as_fd(), 9000).unwrap_err();
            assert_eq!(error.errno(), Errno::IO, "{name}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let dir = Scratch::new("copy");
        let from = make(&dir.path().join("from"), MIB, &[(0, MIB)]);
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(copy_data(from.as_fd(), full.as_fd(), MIB).unwrap_err().errno(), Errno::NOSPC);
    }
}
