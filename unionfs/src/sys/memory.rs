//! Memory that was freed, back to the system.

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
