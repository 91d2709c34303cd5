//! Answers to a user's questions, as attributes that are nowhere stored:
//! `user.runionfs.layer`, `user.runionfs.path`, and on the root
//! `user.runionfs.stats`. They are not listed, so that no copy takes them along.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use crate::Union;
use crate::error::Result;
use crate::inode::{Body, Inode, Place, ROOT};
use crate::name::NameBuf;
use crate::stack::real::RealDir;

const PREFIX: &[u8] = b"user.runionfs.";

/// Whether a name is one of ours.
pub(super) fn is_virtual(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX)
}

/// The value of a virtual attribute; `None` for a name that is not one.
///
/// # Errors
/// `ENODATA` for one that this file has not.
pub(super) fn value(union: &Union, inode: &Inode, name: &OsStr) -> Result<Option<Vec<u8>>> {
    let Some(question) = name.as_bytes().strip_prefix(PREFIX) else { return Ok(None) };
    let answer = match question {
        b"layer" => layer_path(union, inode),
        b"path" => real_path(union, inode),
        b"stats" if inode.id == ROOT => Some(union.stats_json().into_bytes()),
        _ => None,
    };
    answer.map(Some).ok_or_else(|| Errno::NODATA.into())
}

/// Gives a value to who asked, or its size to an empty buffer.
///
/// # Errors
/// `ERANGE` for a buffer too small.
pub(super) fn copy_out(value: &[u8], buffer: &mut [u8]) -> Result<usize> {
    if buffer.is_empty() {
        return Ok(value.len());
    }
    let out = buffer.get_mut(..value.len()).ok_or(Errno::RANGE)?;
    out.copy_from_slice(value);
    Ok(value.len())
}

/// The directory and name that a node's metadata comes from.
fn origin(union: &Union, inode: &Inode) -> Option<(std::sync::Arc<RealDir>, Option<NameBuf>)> {
    match &inode.body {
        Body::Dir(dir) => Some((dir.merged().top()?.clone(), None)),
        Body::File(file) => {
            let state = file.state.read();
            match state.place() {
                Place::Lower(_) | Place::Hidden(_) => {
                    let (dir, name) = state.as_lower()?;
                    Some((dir.clone(), Some(name.to_buf())))
                }
                Place::Upper => {
                    let link = state.first_link()?;
                    Some((union.upper_dir(&link.parent).ok()?, Some(link.name.clone())))
                }
                Place::Index(_) | Place::Held(_) => Some((union.upper.as_ref()?.root.clone(), None)),
                Place::Succeeded(inode) => origin(union, inode),
            }
        }
    }
}

fn layer_path(union: &Union, inode: &Inode) -> Option<Vec<u8>> {
    let (dir, _) = origin(union, inode)?;
    let path = match union.layers.get(dir.layer) {
        Some(layer) => layer.path.as_os_str(),
        None => union.config.upper.as_ref()?.upper.as_os_str(),
    };
    Some(path.as_bytes().to_vec())
}

fn real_path(union: &Union, inode: &Inode) -> Option<Vec<u8>> {
    let (dir, name) = origin(union, inode)?;
    let mut path = layer_path(union, inode)?;
    for part in dir.path().iter().chain(&name) {
        path.push(b'/');
        path.extend_from_slice(part.as_name().bytes());
    }
    Some(path)
}
