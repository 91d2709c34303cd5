//! fs-verity's ioctls (<linux/fsverity.h>).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};

use crate::verity::Digest;

/// What the kernel says of a file's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// It holds the file to this one.
    Sealed(Digest),
    /// It holds the file to none, or to one that is no SHA-256.
    Unsealed,
    /// The file system, or the kernel, has no fs-verity.
    NotOffered,
}

/// What became of a file that was to be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// It is.
    Yes,
    /// Somebody has it open for writing.
    Busy,
    /// The file system seals none, or none in such blocks.
    NotOffered,
}

/// Whether the file system that a directory, or a file, is on has fs-verity.
pub fn is_offered(on: impl AsFd) -> bool {
    // What is not sealed, as no directory is, has no digest; elsewhere the
    // request itself is unknown.
    matches!(measure(on), Ok(Measured::Unsealed | Measured::Sealed(_)))
}

/// Asks for a file's digest, which the kernel knows without reading it.
///
/// # Errors
/// What the system call says.
pub fn measure(file: impl AsFd) -> Result<Measured> {
    let mut told = raw::Measure { algorithm: 0, size: size_of::<Digest>() as u16, digest: [0; 32] };
    match raw::measure(file.as_fd(), &mut told) {
        Ok(()) if told.algorithm == raw::SHA256 && usize::from(told.size) == size_of::<Digest>() => {
            Ok(Measured::Sealed(told.digest))
        }
        // A digest that is longer is of another algorithm.
        Ok(()) | Err(Errno::NODATA | Errno::OVERFLOW) => Ok(Measured::Unsealed),
        Err(errno) if is_unknown(errno) => Ok(Measured::NotOffered),
        Err(errno) => Err(errno),
    }
}

/// Seals a file, by a descriptor that reads: what is in it now stays, and the
/// kernel reads nothing else. It takes the right to write to the file.
///
/// # Errors
/// `ENOSPC` and what else writing the tree of hashes gave; the file then is as it
/// was.
pub fn seal(file: impl AsFd) -> Result<Sealed> {
    loop {
        return match raw::enable(file.as_fd()) {
            // Somebody else was faster.
            Ok(()) | Err(Errno::EXIST) => Ok(Sealed::Yes),
            Err(Errno::TXTBSY) => Ok(Sealed::Busy),
            Err(Errno::INTR) => continue,
            Err(errno) if is_unknown(errno) || errno == Errno::INVAL => Ok(Sealed::NotOffered),
            Err(errno) => Err(errno),
        };
    }
}

/// Whether a request is none that the file system knows.
fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS)
}

mod raw {
    use super::*;

    /// `_IOW('f', 133, struct fsverity_enable_arg)`
    const ENABLE: libc::Ioctl = 0x4080_6685;
    /// `_IOWR('f', 134, struct fsverity_digest)`
    const MEASURE: libc::Ioctl = 0xc004_6686_u32 as libc::Ioctl;
    /// `FS_VERITY_HASH_ALG_SHA256`
    pub const SHA256: u16 = 1;
    const BLOCK: u32 = 4096;

    /// `struct fsverity_enable_arg`
    #[repr(C)]
    struct Enable {
        version: u32,
        algorithm: u32,
        block_size: u32,
        salt_size: u32,
        salt: u64,
        signature_size: u32,
        reserved: u32,
        signature: u64,
        reserved_too: [u64; 11],
    }

    /// `struct fsverity_digest`, with room for one of SHA-256.
    #[repr(C)]
    pub struct Measure {
        pub algorithm: u16,
        /// Before the call, how much room there is.
        pub size: u16,
        pub digest: [u8; 32],
    }

    const _: () = assert!(size_of::<Enable>() == 128 && size_of::<Measure>() == 36);

    pub fn enable(file: BorrowedFd<'_>) -> Result<()> {
        let arguments = Enable {
            version: 1,
            algorithm: SHA256.into(),
            block_size: BLOCK,
            salt_size: 0,
            salt: 0,
            signature_size: 0,
            reserved: 0,
            signature: 0,
            reserved_too: [0; 11],
        };
        // SAFETY: the request reads one `struct fsverity_enable_arg`, which
        // `arguments` is, and neither salt nor signature, having no length.
        check(unsafe { libc::ioctl(file.as_raw_fd(), ENABLE, &raw const arguments) })
    }

    pub fn measure(file: BorrowedFd<'_>, told: &mut Measure) -> Result<()> {
        // SAFETY: the request reads the head of one `struct fsverity_digest`, which
        // `told` is, and writes it and as many bytes behind it as its size says there
        // is room for.
        check(unsafe { libc::ioctl(file.as_raw_fd(), MEASURE, &raw mut *told) })
    }

    fn check(result: libc::c_int) -> Result<()> {
        if result >= 0 { Ok(()) } else { Err(super::super::at::last_errno()) }
    }
}
