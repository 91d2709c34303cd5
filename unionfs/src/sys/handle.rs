//! File handles: names of files that outlive their paths, by which overlay
//! remembers where a copied-up file came from.
//!
//! A handle is found by any process (`name_to_handle_at(2)`) but opened only
//! with `CAP_DAC_READ_SEARCH` in the initial user namespace, or in the one that
//! owns the file system's mount (`open_by_handle_at(2)`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use smallvec::SmallVec;

use crate::error::Result;
use crate::name::Name;

/// The longest handle the kernel makes (`MAX_HANDLE_SZ`).
pub const HANDLE_MAX: usize = 128;

/// A file's handle on its file system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// What the bytes mean, by the file system's own rules.
    pub kind: i32,
    /// The handle itself.
    pub bytes: SmallVec<[u8; 32]>,
}

/// The handle of an open file (`O_PATH` will do), or of an entry of a
/// directory, where a symlink is itself meant. `None` on a file system that has
/// no handles, or none that fit.
///
/// # Errors
/// What the system call says: `ENOENT`, `EIO`.
pub fn of(target: BorrowedFd<'_>, name: Option<Name<'_>>) -> Result<Option<Handle>> {
    match raw::name_to_handle(target, name) {
        Ok(handle) => Ok(Some(handle)),
        // EOVERFLOW: longer than the longest, or a file that has no handle.
        // ENOSYS: a sandbox that forbids the call.
        Err(Errno::OPNOTSUPP | Errno::OVERFLOW | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens the file as `O_PATH`. `mount` is any directory or file of that mount,
/// opened in earnest: the call refuses `O_PATH` descriptors (`EBADF`).
///
/// # Errors
/// Two answers are ordinary: `ESTALE`, the file is gone or never was on this
/// file system, and `EPERM`, this process may not open files by handle.
pub fn open(mount: BorrowedFd<'_>, handle: &Handle) -> rustix::io::Result<OwnedFd> {
    raw::open_by_handle(mount, handle)
}

/// The file system's UUID as the kernel knows it; zeros where it has none, or
/// where the kernel (before 6.9) cannot say. Takes a descriptor opened in
/// earnest: on an `O_PATH` one the answer is zeros.
pub fn file_system_uuid(fd: BorrowedFd<'_>) -> [u8; 16] {
    raw::uuid(fd.as_fd()).unwrap_or([0; 16])
}

/// The system calls, which rustix does not have.
mod raw {
    use std::ffi::c_int;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

    use rustix::io::Errno;
    use smallvec::SmallVec;

    use super::{HANDLE_MAX, Handle};
    use crate::name::{NAME_MAX, Name};

    /// `struct file_handle` with room for the longest.
    #[repr(C)]
    struct FileHandle {
        handle_bytes: u32,
        handle_type: c_int,
        f_handle: [u8; HANDLE_MAX],
    }

    /// `struct fsuuid2` of linux/fs.h.
    #[repr(C)]
    struct FsUuid {
        len: u8,
        uuid: [u8; 16],
    }

    /// `_IOR(0x15, 0, struct fsuuid2)`.
    const FS_IOC_GETFSUUID: u32 = 0x8011_1500;

    pub fn name_to_handle(target: BorrowedFd<'_>, name: Option<Name<'_>>) -> rustix::io::Result<Handle> {
        let mut path = [0_u8; NAME_MAX + 1];
        let flags = match name {
            Some(name) => {
                // A name has at most NAME_MAX bytes: a NUL always remains.
                path[..name.bytes().len()].copy_from_slice(name.bytes());
                0
            }
            None => libc::AT_EMPTY_PATH,
        };
        let mut handle =
            FileHandle { handle_bytes: HANDLE_MAX as u32, handle_type: 0, f_handle: [0; HANDLE_MAX] };
        let mut mount_id: c_int = 0;
        // SAFETY: the path ends in NUL; the kernel writes at most `handle_bytes`
        // bytes into `f_handle` and one number into `mount_id`, both ours.
        let result = unsafe {
            libc::name_to_handle_at(
                target.as_raw_fd(),
                path.as_ptr().cast(),
                (&raw mut handle).cast(),
                &raw mut mount_id,
                flags,
            )
        };
        check(result)?;
        let bytes = handle.f_handle.get(..handle.handle_bytes as usize).ok_or(Errno::OVERFLOW)?;
        Ok(Handle { kind: handle.handle_type, bytes: SmallVec::from_slice(bytes) })
    }

    pub fn open_by_handle(mount: BorrowedFd<'_>, handle: &Handle) -> rustix::io::Result<OwnedFd> {
        let mut raw = FileHandle {
            handle_bytes: handle.bytes.len() as u32,
            handle_type: handle.kind,
            f_handle: [0; HANDLE_MAX],
        };
        // Nothing that long was ever given out.
        let room = raw.f_handle.get_mut(..handle.bytes.len()).ok_or(Errno::STALE)?;
        room.copy_from_slice(&handle.bytes);
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        // SAFETY: the kernel reads the two numbers and `handle_bytes` bytes of
        // `raw`, which holds at least as many.
        let result = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut raw).cast(), flags) };
        check(result)?;
        // SAFETY: the descriptor was just opened and is nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(result) })
    }

    pub fn uuid(fd: BorrowedFd<'_>) -> rustix::io::Result<[u8; 16]> {
        let mut answer = FsUuid { len: 0, uuid: [0; 16] };
        // SAFETY: the request writes one `struct fsuuid2`, which `answer` is.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_GETFSUUID as _, &raw mut answer) })?;
        // A shorter one fills the front; the kernel has zeroed the rest.
        Ok(answer.uuid)
    }

    fn check(result: c_int) -> rustix::io::Result<()> {
        if result >= 0 {
            return Ok(());
        }
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        Err(Errno::from_raw_os_error(errno))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{AtFlags, Mode, OFlags};

    use super::*;
    use crate::sys::scratch::Scratch;

    fn ino(fd: BorrowedFd<'_>) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    #[test]
    fn a_handle_finds_its_file_again_until_it_is_gone() {
        for dir in Scratch::on_each_file_system("handle") {
            let name = |name: &'static [u8]| Name::new(name).unwrap();
            File::create(dir.path().join("file")).unwrap();
            std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
            std::fs::create_dir(dir.path().join("dir")).unwrap();
            for entry in [&b"file"[..], b"link", b"dir"] {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(dir.fd(), entry, flags, Mode::empty()).unwrap();
                let by_name = of(dir.fd(), Some(Name::new(entry).unwrap())).unwrap().unwrap();
                assert_eq!(of(opened.as_fd(), None).unwrap().unwrap(), by_name);
                match open(dir.fd(), &by_name) {
                    Ok(found) => assert_eq!(ino(found.as_fd()), ino(opened.as_fd())),
                    Err(Errno::PERM) => println!("skipped: this process may not open files by handle"),
                    Err(errno) => panic!("{errno}"),
                }
            }
            let gone = of(dir.fd(), Some(name(b"file"))).unwrap().unwrap();
            rustix::fs::unlinkat(dir.fd(), "file", AtFlags::empty()).unwrap();
            let answer = open(dir.fd(), &gone).unwrap_err();
            assert!(matches!(answer, Errno::STALE | Errno::PERM), "{answer}");
            assert_eq!(of(dir.fd(), Some(name(b"file"))).unwrap_err().errno(), Errno::NOENT);
            let senseless = Handle { kind: 1, bytes: SmallVec::from_elem(0, 200) };
            assert_eq!(open(dir.fd(), &senseless).unwrap_err(), Errno::STALE);
        }
    }

    #[test]
    fn a_file_system_without_handles_has_none() {
        let proc =
            rustix::fs::open("/proc/self", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert_eq!(of(proc.as_fd(), None).unwrap(), None);
        assert_eq!(file_system_uuid(proc.as_fd()), [0; 16]);
    }

    #[test]
    fn each_file_system_has_its_own_uuid() {
        let [disk, memory] = Scratch::on_each_file_system("handle");
        let (disk, memory) = (file_system_uuid(disk.fd()), file_system_uuid(memory.fd()));
        if disk == [0; 16] && memory == [0; 16] {
            println!("skipped: this kernel does not tell a file system's uuid");
            return;
        }
        assert_ne!(disk, memory);
    }
}
