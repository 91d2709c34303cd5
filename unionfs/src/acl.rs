//! POSIX access control lists, as the bytes of `system.posix_acl_access` and
//! `system.posix_acl_default`. Pure.
//!
//! A new file is made in the working directory and moved into place, so the file
//! system cannot give it the ACL that its directory has in store for children;
//! [`inherit`] does. The rules are those of POSIX 1003.1e draft 17, §23.3, which
//! Linux file systems follow.
//!
//! A value is a version, 2, in four bytes, and eight bytes for each entry: tag
//! (2), permissions (2), id (4), all little endian.

use rustix::io::Errno;

use crate::error::{Error, Result};

const VERSION: [u8; 4] = [2, 0, 0, 0];

/// The classes an entry can stand for, in the order in which they must appear.
mod tag {
    pub const USER_OBJ: u16 = 0x01;
    pub const USER: u16 = 0x02;
    pub const GROUP_OBJ: u16 = 0x04;
    pub const GROUP: u16 = 0x08;
    pub const MASK: u16 = 0x10;
    pub const OTHER: u16 = 0x20;
}

/// What is made in a directory with a default ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// A directory, which hands the default on to its own children.
    Directory,
    /// Anything else but a symlink, which has no permissions.
    File,
}

/// What a new file gets from its directory's default ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// Its mode; the umask has no say where there is a default ACL.
    pub mode: u32,
    /// Its access ACL, unless the mode says it all.
    pub access: Option<Vec<u8>>,
    /// Its default ACL.
    pub default: Option<Vec<u8>>,
}

#[derive(Clone, Copy)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// Applies a directory's default ACL to a file about to be made with `mode`.
///
/// # Errors
/// `EINVAL` for a value that is not an ACL with its three obligatory entries.
pub fn inherit(default: &[u8], mode: u32, child: Child) -> Result<Inherited> {
    let mut entries = parse(default)?;
    let is_minimal = entries.iter().all(|entry| !matches!(entry.tag, tag::USER | tag::GROUP | tag::MASK));
    let has_mask = entries.iter().any(|entry| entry.tag == tag::MASK);
    // Each class may do what both the ACL and the mode asked for allow; the
    // group's part of the mode stands for the mask, where there is one.
    let mut granted = 0;
    for entry in &mut entries {
        let shift = match entry.tag {
            tag::USER_OBJ => 6,
            tag::MASK => 3,
            tag::GROUP_OBJ if !has_mask => 3,
            tag::OTHER => 0,
            _ => continue,
        };
        entry.permissions &= (mode >> shift) as u16 & 0o7;
        granted |= u32::from(entry.permissions) << shift;
    }
    Ok(Inherited {
        mode: mode & !0o777 | granted,
        access: if is_minimal { None } else { Some(format(&entries)) },
        default: match child {
            Child::Directory => Some(default.to_vec()),
            Child::File => None,
        },
    })
}

/// The same ACL with the ids of its named users and groups mapped.
///
/// # Errors
/// `EINVAL` for a value that is not an ACL, or an id that has no mapping: as the
/// kernel answers where a user namespace has no such id.
pub fn map_ids(
    acl: &[u8],
    user: impl Fn(u32) -> Option<u32>,
    group: impl Fn(u32) -> Option<u32>,
) -> Result<Vec<u8>> {
    let mut entries = read_entries(acl)?;
    for entry in &mut entries {
        let mapped = match entry.tag {
            tag::USER => user(entry.id),
            tag::GROUP => group(entry.id),
            _ => continue,
        };
        let unmapped = || Error::new(Errno::INVAL, format!("acl: id {} has no mapping", entry.id));
        entry.id = mapped.ok_or_else(unmapped)?;
    }
    Ok(format(&entries))
}

/// The entries of a complete ACL: owner, group and others once each, and a mask
/// if anyone is named.
fn parse(acl: &[u8]) -> Result<Vec<Entry>> {
    let entries = read_entries(acl)?;
    let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
    let obligatory = [tag::USER_OBJ, tag::GROUP_OBJ, tag::OTHER].iter().all(|&tag| count(tag) == 1);
    let named = count(tag::USER) + count(tag::GROUP) > 0;
    let masks = count(tag::MASK);
    if obligatory && (masks == 1 || masks == 0 && !named) { Ok(entries) } else { Err(invalid(acl)) }
}

/// The entries, each by itself in order.
fn read_entries(acl: &[u8]) -> Result<Vec<Entry>> {
    let body = acl.strip_prefix(&VERSION).ok_or_else(|| invalid(acl))?;
    let chunks = body.chunks_exact(8);
    if !chunks.remainder().is_empty() {
        return Err(invalid(acl));
    }
    chunks.map(|chunk| read_entry(chunk).ok_or_else(|| invalid(acl))).collect()
}

fn read_entry(chunk: &[u8]) -> Option<Entry> {
    let &[t0, t1, p0, p1, ref id @ ..] = chunk.first_chunk::<8>()?;
    let tag = u16::from_le_bytes([t0, t1]);
    let permissions = u16::from_le_bytes([p0, p1]);
    let known = [tag::USER_OBJ, tag::USER, tag::GROUP_OBJ, tag::GROUP, tag::MASK, tag::OTHER];
    let valid = known.contains(&tag) && permissions <= 0o7;
    valid.then(|| Entry { tag, permissions, id: u32::from_le_bytes(*id) })
}

fn format(entries: &[Entry]) -> Vec<u8> {
    let mut acl = VERSION.to_vec();
    for entry in entries {
        acl.extend(entry.tag.to_le_bytes());
        acl.extend(entry.permissions.to_le_bytes());
        acl.extend(entry.id.to_le_bytes());
    }
    acl
}

fn invalid(acl: &[u8]) -> Error {
    Error::new(Errno::INVAL, format!("acl: {} bytes that are not an access control list", acl.len()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{Mode, OFlags, XattrFlags};

    use super::*;
    use crate::name::Name;
    use crate::sys::scratch::Scratch;
    use crate::sys::xattr::{Target, get_vec, set};

    /// Entries that name nobody carry no id.
    const NO_ID: u32 = u32::MAX;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entry = |&(tag, permissions, id): &_| Entry { tag, permissions, id };
        format(&entries.iter().map(entry).collect::<Vec<_>>())
    }

    fn minimal(user: u16, group: u16, other: u16) -> Vec<u8> {
        let (user, group) = ((tag::USER_OBJ, user, NO_ID), (tag::GROUP_OBJ, group, NO_ID));
        acl(&[user, group, (tag::OTHER, other, NO_ID)])
    }

    /// With a named user, two named groups and a mask.
    fn extended(user: u16, group: u16, mask: u16, other: u16) -> Vec<u8> {
        acl(&[
            (tag::USER_OBJ, user, NO_ID),
            (tag::USER, 6, 1000),
            (tag::GROUP_OBJ, group, NO_ID),
            (tag::GROUP, 7, 50),
            (tag::GROUP, 1, 100),
            (tag::MASK, mask, NO_ID),
            (tag::OTHER, other, NO_ID),
        ])
    }

    fn mask_only(mask: u16) -> Vec<u8> {
        acl(&[
            (tag::USER_OBJ, 7, NO_ID),
            (tag::GROUP_OBJ, 5, NO_ID),
            (tag::MASK, mask, NO_ID),
            (tag::OTHER, 5, NO_ID),
        ])
    }

    fn defaults() -> Vec<Vec<u8>> {
        let mut all = vec![minimal(7, 5, 0), minimal(7, 7, 7), minimal(0, 0, 0), minimal(6, 4, 1)];
        all.extend([extended(7, 5, 7, 5), extended(7, 7, 0, 0), extended(6, 0, 4, 1), extended(0, 2, 3, 7)]);
        all.extend([mask_only(7), mask_only(4), mask_only(0)]);
        all
    }

    /// What the file system itself makes of it.
    fn made(dir: BorrowedFd<'_>, path: &std::path::Path, mode: u32, child: Child) -> Inherited {
        let asked = Mode::from_raw_mode(mode);
        match child {
            Child::Directory => rustix::fs::mkdirat(dir, "new", asked).unwrap(),
            Child::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::openat(dir, "new", flags, asked).unwrap());
            }
        }
        let entry = Target::At(dir, Name::new(b"new").unwrap());
        let path = path.join("new");
        let result = Inherited {
            mode: path.metadata().unwrap().mode() & 0o7777,
            access: get_vec(entry, c"system.posix_acl_access").unwrap(),
            default: get_vec(entry, c"system.posix_acl_default").unwrap(),
        };
        match child {
            Child::Directory => std::fs::remove_dir(path).unwrap(),
            Child::File => std::fs::remove_file(path).unwrap(),
        }
        result
    }

    #[test]
    fn files_inherit_as_on_a_real_file_system() {
        for dir in Scratch::on_each_file_system("acl") {
            for default in defaults() {
                match set(Target::Fd(dir.fd()), c"system.posix_acl_default", &default, XattrFlags::empty()) {
                    Ok(()) => {}
                    Err(Errno::OPNOTSUPP) => {
                        println!("skipped: {} has no access control lists", dir.path().display());
                        break;
                    }
                    Err(errno) => panic!("{errno}"),
                }
                for mode in [0o777, 0o755, 0o644, 0o600, 0o421, 0o1770, 0o4711, 0o070, 0] {
                    for child in [Child::Directory, Child::File] {
                        // mkdir has no say about the set-id bits.
                        let mode = if child == Child::Directory { mode & 0o1777 } else { mode };
                        let ours = inherit(&default, mode, child).unwrap();
                        let real = made(dir.fd().as_fd(), dir.path(), mode, child);
                        assert_eq!(ours, real, "{child:?} {mode:o} under {default:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_named_ids_are_mapped() {
        let shifted = map_ids(&extended(7, 5, 7, 5), |id| Some(id + 1), |id| Some(id * 2)).unwrap();
        let ids: Vec<_> = read_entries(&shifted).unwrap().iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [NO_ID, 1001, NO_ID, 100, 200, NO_ID, NO_ID]);
        assert_eq!(map_ids(&mask_only(4), |_| None, |_| None).unwrap(), mask_only(4));
        let error = map_ids(&extended(7, 5, 7, 5), Some, |_| None).unwrap_err();
        assert_eq!((error.errno(), error.to_string().contains("50")), (Errno::INVAL, true));
    }

    #[test]
    fn what_is_not_an_acl_is_refused() {
        let good = extended(7, 5, 7, 5);
        let mut later = good.clone();
        later[0] = 3;
        let mut unknown = good.clone();
        unknown[4] = 0x40;
        let mut excess = good.clone();
        excess[6] = 8;
        let no_mask = acl(&[
            (tag::USER_OBJ, 7, NO_ID),
            (tag::USER, 7, 1),
            (tag::GROUP_OBJ, 7, NO_ID),
            (tag::OTHER, 7, NO_ID),
        ]);
        let no_other = acl(&[(tag::USER_OBJ, 7, NO_ID), (tag::GROUP_OBJ, 7, NO_ID)]);
        for bad in
            [&b""[..], &VERSION, &good[..good.len() - 1], &later, &unknown, &excess, &no_mask, &no_other]
        {
            assert_eq!(inherit(bad, 0o644, Child::File).unwrap_err().errno(), Errno::INVAL, "{bad:?}");
        }
    }
}
