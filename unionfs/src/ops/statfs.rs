//! The file system as a whole.

use std::os::fd::AsFd;

use crate::Union;
use crate::error::Result;
use crate::name::NAME_MAX;
use crate::stack::real::Held;

/// What statfs tells: the upper's numbers, or the top lower's.
#[derive(Clone, Copy, Debug)]
pub struct FileSystemStat {
    /// Blocks of [`FileSystemStat::fragment_size`] bytes.
    pub blocks: u64,
    /// Free ones.
    pub free: u64,
    /// Free for who is not root.
    pub available: u64,
    /// Inodes.
    pub files: u64,
    /// Free ones.
    pub free_files: u64,
    /// Preferred transfer size, bytes.
    pub block_size: u32,
    /// The unit of the block counts, bytes.
    pub fragment_size: u32,
    /// Longest name, bytes.
    pub name_max: u32,
}

impl Union {
    /// Sizes of the file system that is written to.
    ///
    /// # Errors
    /// What the layer gave.
    pub fn statfs(&self) -> Result<FileSystemStat> {
        let merged = super::dir_of(&self.root)?.merged();
        let top = merged.top().ok_or(rustix::io::Errno::NOENT)?;
        let stat = match top.hold(&self.layers.fds)? {
            Held::Fd(fd) => rustix::fs::fstatvfs(fd.as_fd())?,
            Held::Image(image, _) => rustix::fs::fstatvfs(&image.file)?,
        };
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(FileSystemStat {
            blocks: stat.f_blocks,
            free: stat.f_bfree,
            available: stat.f_bavail,
            files: stat.f_files,
            free_files: stat.f_ffree,
            block_size: small(stat.f_bsize),
            fragment_size: small(stat.f_frsize),
            name_max: NAME_MAX as u32,
        })
    }
}
