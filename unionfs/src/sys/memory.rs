//! Memory that was freed, back to the system; and files as memory.

use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{Mmap, MmapOptions};

/// Gives back what the allocator keeps of freed memory, wherever whole pages of
/// it are free: it does by itself only at the end of its heap, where some file
/// that is still in use holds the rest. Walks all free memory.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes the allocator's own locks and touches free memory
    // alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A regular file's bytes, mapped to be read. Whoever opened it answers for it
/// that nobody shortens it while it is mapped: to read where the file has no
/// more bytes ends the process (`SIGBUS`).
pub fn map(file: BorrowedFd<'_>) -> std::io::Result<Mmap> {
    // SAFETY: the descriptor is open as long as the call lasts, and the mapping
    // needs it no longer. Its bytes stay as they are: images are written once,
    // under another name, and replaced by rename; they are read through slices of
    // plain bytes in which every value is valid.
    unsafe { MmapOptions::new().map(file.as_raw_fd()) }
}
