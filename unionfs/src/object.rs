//! One file of a layer, whatever kind of layer that is: everything that is read
//! of it, in one place.
//!
//! Writers have to do with files of the upper only, which is always a directory
//! of a file system: they ask for the [`Object::target`].

use std::ffi::CStr;

use rustix::io::Result;

use crate::sys::at::{self, Stat, Target};
use crate::sys::xattr;

/// A file of a layer, which need not be there.
#[derive(Clone, Copy)]
pub enum Object<'a> {
    /// Of a file system.
    Real(Target<'a>),
}

impl<'a> Object<'a> {
    /// The file as system calls take it.
    ///
    /// # Errors
    /// `EROFS` for what is in no file system.
    pub fn target(self) -> Result<Target<'a>> {
        match self {
            Object::Real(target) => Ok(target),
        }
    }

    /// Its attributes; a final symlink is not followed.
    pub fn stat(self) -> Result<Stat> {
        match self {
            Object::Real(target) => at::stat(target),
        }
    }

    /// The target of a symlink.
    pub fn read_link(self) -> Result<Vec<u8>> {
        match self {
            Object::Real(target) => at::read_link(target),
        }
    }

    /// Reads one attribute into `value` and returns its length; with an empty
    /// buffer, only the length.
    ///
    /// # Errors
    /// `ENODATA` where there is no such attribute, `ERANGE` where the buffer is
    /// too small.
    pub fn xattr(self, name: &CStr, value: &mut [u8]) -> Result<usize> {
        match self {
            Object::Real(target) => xattr::get(target, name, value),
        }
    }

    /// Reads one attribute of any length; `None` where there is none.
    pub fn xattr_vec(self, name: &CStr) -> crate::error::Result<Option<Vec<u8>>> {
        match self {
            Object::Real(target) => xattr::get_vec(target, name),
        }
    }

    /// The names of all attributes, each ended by a NUL.
    pub fn xattr_names(self) -> crate::error::Result<Vec<u8>> {
        match self {
            Object::Real(target) => xattr::list(target),
        }
    }
}

impl<'a> From<Target<'a>> for Object<'a> {
    fn from(target: Target<'a>) -> Object<'a> {
        Object::Real(target)
    }
}
