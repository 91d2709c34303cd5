//! The primitives the in-memory tables are built on, in one place so that a
//! model checker can stand in for them.
//!
//! # Lock order
//! Outer before inner; a thread that holds one never asks for one above it.
//! 1. `Inode::lock` of the inodes an operation changes, by ascending id.
//! 2. `Dir::names` of the directories whose entries change, by ascending id;
//!    held over the one system call that makes disk and map agree.
//! 3. `File::state`, `RealDir::at`: where a file is; held shared over a system
//!    call on that file, exclusively over the call that moves it.
//! 4. `Table` shards, `RealDir::fd`, `Fds::queue`, the rest: memory work only.

#[cfg(feature = "shuttle")]
mod explored;

#[cfg(feature = "shuttle")]
pub use explored::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};
#[cfg(not(feature = "shuttle"))]
pub use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(feature = "shuttle"))]
pub use std::sync::atomic;
pub use std::sync::{Arc, Weak};
