//! Extended attributes, with our own marks kept out of sight.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::ensure::Need;
use super::{Caller, virtual_xattr};
use crate::Union;
use crate::error::Result;
use crate::inode::{Body, Fact, Inode, NodeId};
use crate::ondisk::marks::DEFAULT_ACL;
use crate::ondisk::private::{self, Stored};
use crate::sync::atomic::Ordering;
use crate::sys::xattr;

/// When an attribute may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// Always.
    Any,
    /// Only if it is not there.
    Create,
    /// Only if it is.
    Replace,
}

/// What a program gains by being run.
const CAPABILITY: &str = "security.capability";

impl Union {
    /// `ENOSYS` in a mount without: the kernel asks for no attribute again.
    fn has_xattrs(&self) -> Result<()> {
        if self.config.xattrs { Ok(()) } else { Err(Errno::NOSYS.into()) }
    }

    /// The value of an attribute; with an empty buffer, its size.
    ///
    /// # Errors
    /// `ENODATA`, `ERANGE`, or what the layer gave.
    pub fn getxattr(&self, id: NodeId, name: &OsStr, buffer: &mut [u8]) -> Result<usize> {
        self.has_xattrs()?;
        let inode = self.inode(id)?;
        let lacks = Fact::lacks(name.as_bytes());
        if lacks.is_some_and(|fact| inode.learnt.has(fact)) {
            return Err(Errno::NODATA.into());
        }
        if let Some(value) = virtual_xattr::value(self, &inode, name)? {
            return virtual_xattr::copy_out(&value, buffer);
        }
        if name == CAPABILITY && self.lends_no_privilege(&inode) {
            return Err(Errno::NODATA.into());
        }
        let name = c_name(name)?;
        let name = match private::to_disk(&name, self.config.namespace) {
            Stored::Same(name) => name.to_owned(),
            Stored::Escaped(name) => name,
            Stored::Refused => return Err(Errno::NODATA.into()),
        };
        if self.is_acl_off(&name) {
            return Err(Errno::OPNOTSUPP.into());
        }
        if self.maps_ids() && is_acl(&name) {
            let value = self.with_metadata(&inode, |file| file.xattr_vec(&name))?;
            let shown = self.acl_shown(&value.ok_or(Errno::NODATA)?)?;
            return virtual_xattr::copy_out(&shown, buffer);
        }
        let asked = inode.learnt.now();
        let found = self.with_metadata(&inode, |file| Ok(file.xattr(&name, buffer)?));
        if let (Some(fact), Err(error)) = (lacks, &found) {
            if error.errno() == Errno::NODATA {
                inode.learnt.note(asked, fact);
                if is_upper(&inode) {
                    self.can_lack.note(self.can_lack.now(), fact);
                }
            }
        }
        found
    }

    /// Whether the file's capabilities are hidden, see [`Union::is_distrusted`].
    fn lends_no_privilege(&self, inode: &Inode) -> bool {
        self.config.suid && inode.file().is_some_and(|file| self.is_distrusted(&file.state.read()))
    }

    fn maps_ids(&self) -> bool {
        !self.config.uid_map.is_empty() || !self.config.gid_map.is_empty()
    }

    /// The names of all attributes, each ended by a NUL; `trusted.` ones are
    /// root's to see.
    ///
    /// # Errors
    /// What the layer gave.
    pub fn listxattr(&self, id: NodeId, caller: Caller) -> Result<Vec<u8>> {
        self.has_xattrs()?;
        let inode = self.inode(id)?;
        if inode.learnt.has(Fact::NothingListed) {
            return Ok(Vec::new());
        }
        let asked = inode.learnt.now();
        let names = self.with_metadata(&inode, |file| file.xattr_names())?;
        let mut shown = Vec::with_capacity(names.len());
        let mut is_nothing = true;
        for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
            let Some(name) = private::from_disk(name, self.config.namespace) else { continue };
            is_nothing = false;
            if name == CAPABILITY.as_bytes() && self.lends_no_privilege(&inode) {
                continue;
            }
            if caller.uid == 0 || !name.starts_with(b"trusted.") {
                shown.extend_from_slice(&name);
                shown.push(0);
            }
        }
        if is_nothing {
            inode.learnt.note(asked, Fact::NothingListed);
        }
        Ok(shown)
    }

    /// Sets an attribute; copies no data.
    ///
    /// # Errors
    /// `EROFS`, `EEXIST`, `ENODATA`, `EPERM` for what is private to the store,
    /// or what the upper gave.
    pub fn setxattr(&self, id: NodeId, name: &OsStr, value: &[u8], mode: SetMode) -> Result<()> {
        self.has_xattrs()?;
        let flags = match mode {
            SetMode::Any => XattrFlags::empty(),
            SetMode::Create => XattrFlags::CREATE,
            SetMode::Replace => XattrFlags::REPLACE,
        };
        self.change_xattr(id, name, |target, name| {
            if self.maps_ids() && is_acl(name) {
                return Ok(xattr::set(target, name, &self.acl_on_disk(value)?, flags)?);
            }
            Ok(xattr::set(target, name, value, flags)?)
        })
    }

    /// Removes an attribute; copies no data, and nothing where it is absent.
    ///
    /// # Errors
    /// As [`Union::setxattr`].
    pub fn removexattr(&self, id: NodeId, name: &OsStr) -> Result<()> {
        self.has_xattrs()?;
        self.writable()?;
        // Removing what is not there must not copy a file up.
        if self.getxattr(id, name, &mut []).is_err_and(|error| error.errno() == Errno::NODATA) {
            // File systems do not mind removing an ACL that is not there.
            let is_acl = name.as_bytes().starts_with(b"system.posix_acl_");
            let inode = self.inode(id)?;
            return if is_acl && is_upper(&inode) { Ok(()) } else { Err(Errno::NODATA.into()) };
        }
        self.change_xattr(id, name, |target, name| Ok(xattr::remove(target, name)?))?;
        if name == CAPABILITY {
            self.uncapped.store(id, Ordering::Relaxed);
        }
        Ok(())
    }

    fn change_xattr(
        &self,
        id: NodeId,
        name: &OsStr,
        change: impl FnOnce(xattr::Target<'_>, &CStr) -> Result<()>,
    ) -> Result<()> {
        let upper = self.writable()?;
        let inode = self.inode(id)?;
        if virtual_xattr::is_virtual(name) {
            return Err(Errno::PERM.into());
        }
        let name = c_name(name)?;
        let stored = match private::to_disk(&name, self.config.namespace) {
            Stored::Same(name) => name.to_owned(),
            Stored::Escaped(name) => name,
            Stored::Refused => return Err(Errno::PERM.into()),
        };
        if self.is_acl_off(&stored) {
            return Err(Errno::OPNOTSUPP.into());
        }
        self.ensure_upper(upper, &inode, Need::Metadata)?;
        let changed = self.with_metadata(&inode, |file| change(file.target()?, &stored));
        inode.learnt.forget();
        changed?;
        if let Some(dir) = inode.dir().filter(|_| stored.as_c_str() == DEFAULT_ACL) {
            dir.traits.clear();
        }
        Ok(())
    }

    fn is_acl_off(&self, name: &CStr) -> bool {
        !self.config.acl && is_acl(name)
    }
}

fn is_upper(inode: &Inode) -> bool {
    match &inode.body {
        Body::Dir(dir) => dir.merged().upper.is_some(),
        Body::File(file) => !file.state.read().is_lower(),
    }
}

fn is_acl(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"system.posix_acl_")
}

fn c_name(name: &OsStr) -> Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Errno::INVAL.into())
}
