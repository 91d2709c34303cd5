//! Files that the kernel holds to their digests, where the store's file system
//! has fs-verity.
//!
//! A file is sealed before it has its name: once written, by a descriptor that
//! reads, when no other is left. What seals it is its owner's right to write to
//! it, which objects lack otherwise. Where there is no fs-verity nothing is asked
//! of a file.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use unionfs::verity::{self, Measured};

use crate::error::{Context, Error, Kind, Result};
use crate::object::ObjectId;

/// Whether a store's files are sealed, once it was asked.
#[derive(Default)]
pub(crate) struct Sealing(AtomicU8);

const YES: u8 = 1;
const NO: u8 = 2;

impl Sealing {
    /// Whether files are sealed on the file system of this directory.
    pub(crate) fn is_on(&self, dir: impl AsFd) -> bool {
        match self.0.load(Ordering::Relaxed) {
            YES => true,
            NO => false,
            _ => {
                let is_offered = verity::is_offered(dir);
                self.0.store(if is_offered { YES } else { NO }, Ordering::Relaxed);
                is_offered
            }
        }
    }

    /// Seals a file that is written, in a directory's file system: by a descriptor
    /// that reads it, which takes the place of the one that wrote.
    pub(crate) fn seal(&self, file: &mut File, dir: impl AsFd) -> std::io::Result<()> {
        if !self.is_on(dir) {
            return Ok(());
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(reader) => *file = reader.into(),
            // Without /proc nothing can be sealed.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        self.seal_reader(file).map(drop)
    }

    /// Seals a file by a descriptor that reads it; whether that could be.
    pub(crate) fn seal_reader(&self, file: &File) -> std::io::Result<bool> {
        let mode = Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode & 0o7777);
        if !mode.contains(Mode::WUSR) {
            rustix::fs::fchmod(file, mode | Mode::WUSR)?;
        }
        let sealed = self.try_to_seal(file);
        if !mode.contains(Mode::WUSR) {
            rustix::fs::fchmod(file, mode)?;
        }
        sealed
    }

    fn try_to_seal(&self, file: &File) -> std::io::Result<bool> {
        // A program that another thread starts has our descriptors until it runs,
        // those that write too.
        for _ in 0..TRIES {
            match verity::seal(file)? {
                verity::Sealed::Yes => return Ok(true),
                verity::Sealed::Busy => std::thread::sleep(PAUSE),
                verity::Sealed::NotOffered => {
                    self.0.store(NO, Ordering::Relaxed);
                    break;
                }
            }
        }
        Ok(false)
    }
}

const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// A file's contents, read to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// What they are called.
    pub id: ObjectId,
    /// Whether the kernel holds the file to them.
    pub is_sealed: bool,
}

/// Reads a file, which an error calls `what`, and tells what it contains: of a
/// sealed one, the kernel does.
///
/// # Errors
/// [`Kind::Corrupt`] for a sealed file with other bytes on disk.
pub(crate) fn contents(file: &File, what: impl Fn() -> String) -> Result<Contents> {
    let reading = || format!("read {}", what());
    let Measured::Sealed(digest) = verity::measure(file).context(reading)? else {
        let digest = verity::digest_of(file).context(reading)?;
        return Ok(Contents { id: ObjectId(digest), is_sealed: false });
    };
    match read_through(file) {
        Ok(()) => Ok(Contents { id: ObjectId(digest), is_sealed: true }),
        Err(Errno::IO) => {
            let message = format!("{} is sealed, and is not on disk what it was sealed as", what());
            Err(Error::new(Kind::Corrupt, message))
        }
        Err(errno) => Err(errno).context(reading),
    }
}

fn read_through(file: &File) -> Result<(), Errno> {
    let (mut buffer, mut offset) = (vec![0; 1 << 17], 0);
    loop {
        match rustix::io::pread(file, &mut buffer, offset) {
            Ok(0) => return Ok(()),
            Ok(read) => offset += read as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
