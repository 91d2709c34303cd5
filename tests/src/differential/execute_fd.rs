//! The actions on open descriptors.

use rustix::fs::{self, FallocateFlags, FileType, FlockOperation, Mode, SeekFrom};
use rustix::io::{self, Errno};

use super::execute::{Place, errno, list, owner, timestamps, xattr_bytes};
use super::op::Action;
use super::outcome::{Known, Outcome, Value};
use crate::sys;

/// Executes an action whose object is a slot.
pub fn act(place: &Place, action: &Action, known: &Known) -> Outcome {
    use Action as A;
    match action {
        A::Read { .. } | A::Pread { .. } | A::Write { .. } | A::Pwrite { .. } | A::Seek { .. } => {
            transfer(place, action)
        }
        A::Ftruncate { .. } | A::Fallocate { .. } | A::CopyRange { .. } | A::Fsync { .. } => {
            reshape(place, action)
        }
        A::Fchmod { .. }
        | A::Fchown { .. }
        | A::Futimens { .. }
        | A::Fsetxattr { .. }
        | A::Fgetxattr { .. } => metadata(place, action),
        A::Fstat { slot } => Ok(known.attributes(&fs::fstat(place.slot(*slot)?)?)),
        A::FdReaddir { slot } => {
            let dir = place.slots[*slot].as_ref().ok_or(Errno::BADF)?;
            fs::seek(dir, SeekFrom::Start(0))?;
            list(dir)
        }
        A::Flock { slot, operation } => {
            let operation = match *operation {
                libc::LOCK_SH => FlockOperation::NonBlockingLockShared,
                libc::LOCK_EX => FlockOperation::NonBlockingLockExclusive,
                _ => FlockOperation::NonBlockingUnlock,
            };
            fs::flock(place.slot(*slot)?, operation)?;
            Ok(Value::Unit)
        }
        A::OfdLock { slot, kind, start, len } => {
            sys::ofd_lock(place.slot(*slot)?, *kind, i64::from(*start), i64::from(*len)).map_err(errno)?;
            Ok(Value::Unit)
        }
        other => unreachable!("{other:?} has no slot"),
    }
}

fn transfer(place: &Place, action: &Action) -> Outcome {
    let number = |count: usize| Ok(Value::Number(count as i64));
    match *action {
        Action::Read { slot, len } => {
            let mut bytes = vec![0; len as usize];
            let length = io::read(place.slot(slot)?, &mut bytes)?;
            bytes.truncate(length);
            Ok(Value::Bytes(bytes))
        }
        Action::Pread { slot, len, offset } => {
            let mut bytes = vec![0; len as usize];
            let length = io::pread(place.slot(slot)?, &mut bytes, u64::from(offset))?;
            bytes.truncate(length);
            Ok(Value::Bytes(bytes))
        }
        Action::Write { slot, len, fill } => number(io::write(place.slot(slot)?, &data(len, fill))?),
        Action::Pwrite { slot, len, offset, fill } => {
            number(io::pwrite(place.slot(slot)?, &data(len, fill), u64::from(offset))?)
        }
        Action::Seek { slot, whence, offset } => {
            let file = place.slot(slot)?;
            if FileType::from_raw_mode(fs::fstat(file)?.st_mode) == FileType::Directory {
                return Err(Errno::ISDIR); // See `deviations`.
            }
            let target = match whence {
                libc::SEEK_SET => SeekFrom::Start(u64::from(offset)),
                libc::SEEK_CUR => SeekFrom::Current(i64::from(offset)),
                libc::SEEK_END => SeekFrom::End(-i64::from(offset)),
                libc::SEEK_DATA => SeekFrom::Data(u64::from(offset)),
                _ => SeekFrom::Hole(u64::from(offset)),
            };
            let before = fs::seek(file, SeekFrom::Current(0))?;
            let found = fs::seek(file, target)?;
            if matches!(target, SeekFrom::Data(_) | SeekFrom::Hole(_)) {
                // Where that is may differ, where we are must not.
                fs::seek(file, SeekFrom::Start(before))?;
            }
            number(found as usize)
        }
        ref other => unreachable!("{other:?}"),
    }
}

fn reshape(place: &Place, action: &Action) -> Outcome {
    match *action {
        Action::Ftruncate { slot, len } => fs::ftruncate(place.slot(slot)?, u64::from(len))?,
        Action::Fallocate { slot, mode, offset, len } => {
            let mode = FallocateFlags::from_bits_retain(mode);
            fs::fallocate(place.slot(slot)?, mode, u64::from(offset), u64::from(len))?;
        }
        Action::CopyRange { from, to, from_offset, to_offset, len } => {
            let (mut from_offset, mut to_offset) = (u64::from(from_offset), u64::from(to_offset));
            let (from, to) = (place.slot(from)?, place.slot(to)?);
            let copied =
                fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), len as usize)?;
            return Ok(Value::Number(copied as i64));
        }
        Action::Fsync { slot } => fs::fsync(place.slot(slot)?)?,
        ref other => unreachable!("{other:?}"),
    }
    Ok(Value::Unit)
}

fn metadata(place: &Place, action: &Action) -> Outcome {
    match *action {
        Action::Fchmod { slot, mode } => fs::fchmod(place.slot(slot)?, Mode::from_raw_mode(mode.0))?,
        Action::Fchown { slot, uid, gid } => {
            let (uid, gid) = owner(uid, gid);
            fs::fchown(place.slot(slot)?, uid, gid)?;
        }
        Action::Futimens { slot, atime, mtime } => {
            fs::futimens(place.slot(slot)?, &timestamps(atime, mtime))?
        }
        Action::Fsetxattr { slot, name, value, flags } => {
            let flags = fs::XattrFlags::from_bits_retain(flags);
            fs::fsetxattr(place.slot(slot)?, name, &xattr_bytes(value), flags)?;
        }
        Action::Fgetxattr { slot, name } => {
            let mut value = vec![0; 1024];
            let length = fs::fgetxattr(place.slot(slot)?, name, &mut value)?;
            value.truncate(length);
            return Ok(Value::Bytes(value));
        }
        ref other => unreachable!("{other:?}"),
    }
    Ok(Value::Unit)
}

/// Bytes that tell where they came from.
fn data(len: u32, fill: u8) -> Vec<u8> {
    (0..len).map(|i| fill.wrapping_add((i % 50) as u8).max(1)).collect()
}
