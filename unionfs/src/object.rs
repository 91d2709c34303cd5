//! One file of a layer, whatever kind of layer that is: everything that is read
//! of it, in one place.
//!
//! Writers have to do with files of the upper only, which is always a directory
//! of a file system: they ask for the [`Object::target`].

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, MemfdFlags, SealFlags};
use rustix::io::{Errno, Result};

use crate::config::Namespace;
use crate::image::{Attr, Contents, Data, Index, Kind, Nid, format};
use crate::sys::at::{self, Stat, Target, Time};
use crate::sys::handle::Handle;
use crate::sys::xattr;

/// A file of a layer, which need not be there.
#[derive(Clone, Copy)]
pub enum Object<'a> {
    /// Of a file system.
    Real(Target<'a>),
    /// Of an image; `None` for a name that nothing has.
    Image(&'a Image, Option<Nid>),
}

/// An image as a layer.
pub struct Image {
    /// Its files.
    pub index: Index,
    /// The file the index is read from.
    pub file: OwnedFd,
    /// Tells its files from those of other layers, as a file system's number
    /// does.
    pub dev: u64,
}

impl<'a> Object<'a> {
    /// The file as system calls take it.
    ///
    /// # Errors
    /// `EROFS` for what is in no file system.
    pub fn target(self) -> Result<Target<'a>> {
        match self {
            Object::Real(target) => Ok(target),
            Object::Image(..) => Err(Errno::ROFS),
        }
    }

    /// Its attributes; a final symlink is not followed.
    pub fn stat(self) -> Result<Stat> {
        match self {
            Object::Real(target) => at::stat(target),
            Object::Image(image, nid) => Ok(image.stat(&image.attr(nid)?)),
        }
    }

    /// The target of a symlink.
    pub fn read_link(self) -> Result<Vec<u8>> {
        match self {
            Object::Real(target) => at::read_link(target),
            Object::Image(image, nid) => {
                image.index.readlink(there(nid)?).map(<[u8]>::to_vec).map_err(|error| error.errno())
            }
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
            Object::Image(image, nid) => {
                let found = image.xattr(nid, name)?.ok_or(Errno::NODATA)?;
                if !value.is_empty() {
                    value.get_mut(..found.len()).ok_or(Errno::RANGE)?.copy_from_slice(found);
                }
                Ok(found.len())
            }
        }
    }

    /// Reads one attribute of any length; `None` where there is none.
    pub fn xattr_vec(self, name: &CStr) -> crate::error::Result<Option<Vec<u8>>> {
        match self {
            Object::Real(target) => xattr::get_vec(target, name),
            Object::Image(image, nid) => Ok(image.xattr(nid, name)?.map(<[u8]>::to_vec)),
        }
    }

    /// The names of all attributes, each ended by a NUL.
    pub fn xattr_names(self) -> crate::error::Result<Vec<u8>> {
        let (image, nid) = match self {
            Object::Real(target) => return xattr::list(target),
            Object::Image(image, nid) => (image, there(nid)?),
        };
        let mut names = Vec::new();
        for xattr in image.index.xattrs(nid)? {
            let xattr = xattr?;
            if !PLACES.iter().any(|place| xattr.is_named(place)) {
                names.extend(xattr.name());
                names.push(0);
            }
        }
        Ok(names)
    }

    /// Where marks are kept that overlayfs has put on it: in an image always in
    /// the one place, whoever mounts it.
    pub fn namespace(self, namespace: Namespace) -> Namespace {
        match self {
            Object::Real(_) => namespace,
            Object::Image(..) => Namespace::Trusted,
        }
    }
}

impl<'a> From<Target<'a>> for Object<'a> {
    fn from(target: Target<'a>) -> Object<'a> {
        Object::Real(target)
    }
}

/// Attributes that say where a file's contents are: the image's own matter.
const PLACES: [&[u8]; 2] = [format::METACOPY, format::REDIRECT];

/// `st_blksize` of a file of an image, and the unit its space is counted in.
const BLOCK: u32 = 4096;

/// A handle of a file of an EROFS image: its number in three words, the third a
/// generation (`erofs_encode_fh`).
const FILEID_INO64_GEN: i32 = 0x81;

impl Image {
    fn attr(&self, nid: Option<Nid>) -> Result<Attr> {
        self.index.attr(there(nid)?).map_err(|error| error.errno())
    }

    /// What has this name in a directory.
    pub fn find(&self, dir: Nid, name: &[u8]) -> Result<Option<Nid>> {
        self.index.lookup(dir, name).map_err(|error| error.errno())
    }

    fn xattr(&self, nid: Option<Nid>, name: &CStr) -> Result<Option<&[u8]>> {
        let name = name.to_bytes();
        if PLACES.contains(&name) {
            return Ok(None);
        }
        self.index.xattr(there(nid)?, name).map_err(|error| error.errno())
    }

    /// Attributes as `stat` gives them. An image has one time of each file.
    fn stat(&self, attr: &Attr) -> Stat {
        let time = Time { sec: attr.mtime, nsec: attr.mtime_nsec };
        Stat {
            dev: self.dev,
            ino: attr.ino,
            mode: file_type(attr.kind).as_raw_mode() | u32::from(attr.mode),
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: rustix::fs::makedev(attr.rdev.0, attr.rdev.1),
            size: attr.size,
            // As dense as a file can be: it is no metacopy.
            blocks: attr.size.div_ceil(BLOCK.into()) * u64::from(BLOCK / 512),
            blksize: BLOCK,
            atime: time,
            mtime: time,
            ctime: time,
            btime: Time::default(),
        }
    }

    /// The handle a file has on the image, as the kernel would make it.
    pub fn handle(nid: Nid) -> Handle {
        let words = [(nid.0 >> 32) as u32, nid.0 as u32, 0];
        Handle { kind: FILEID_INO64_GEN, bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect() }
    }

    /// The attributes of the file that a handle is of; `None` for none of these.
    pub fn stat_by_handle(&self, handle: &Handle) -> Option<Stat> {
        let word =
            |at: usize| Some(u32::from_le_bytes(handle.bytes.get(4 * at..4 * at + 4)?.try_into().ok()?));
        let nid = u64::from(word(0)?) << 32 | u64::from(word(1)?);
        let is_ours = handle.kind == FILEID_INO64_GEN && handle.bytes.len() == 12;
        self.index.attr(Nid(nid)).ok().filter(|_| is_ours).map(|attr| self.stat(&attr))
    }

    /// Opens a regular file's contents for reading. `object` opens a file of the
    /// pool by its path there.
    ///
    /// # Errors
    /// `EIO` for an object of another length than the image says; what opening
    /// gave.
    pub fn open(
        &self,
        nid: Option<Nid>,
        object: impl FnOnce(&[u8]) -> crate::error::Result<OwnedFd>,
    ) -> crate::error::Result<OwnedFd> {
        match self.index.contents(there(nid)?)? {
            Contents::Inline(data) => Ok(in_memory(data, data.len() as u64)?),
            Contents::Hole { size } => Ok(in_memory(Data::default(), size)?),
            Contents::Object { path, size, .. } => {
                let file = object(path)?;
                let found = rustix::fs::fstat(&file)?.st_size;
                if u64::try_from(found).ok() != Some(size) {
                    let path = String::from_utf8_lossy(path);
                    let sentence = format!("the object {path} has {found} bytes and should have {size}");
                    return Err(crate::Error::new(Errno::IO, sentence));
                }
                Ok(file)
            }
        }
    }
}

/// A file that nobody can change, of these bytes and then zeros.
fn in_memory(data: Data<'_>, size: u64) -> Result<OwnedFd> {
    let file = rustix::fs::memfd_create(c"inline", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut at = 0;
    for piece in data.pieces() {
        let mut rest = piece;
        while !rest.is_empty() {
            let written = rustix::io::pwrite(&file, rest, at)?;
            rest = rest.get(written..).unwrap_or_default();
            at += written as u64;
        }
    }
    rustix::fs::ftruncate(&file, size)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file)
}

/// What is not there has no attributes.
fn there(nid: Option<Nid>) -> Result<Nid> {
    nid.ok_or(Errno::NOENT)
}

/// A file's type, as the rest of the crate has it.
pub fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Char => FileType::CharacterDevice,
        Kind::Block => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    }
}
