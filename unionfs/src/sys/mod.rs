//! System calls without policy: borrowed descriptors and checked names in,
//! values and errno out. The only place in this crate where `unsafe` may stand.

pub mod at;
pub mod copy;
pub mod creds;
pub mod fuse;
pub mod handle;
pub mod memory;
pub mod mount;
pub mod owned;
#[cfg(test)]
pub mod scratch;
pub mod uring;
pub mod verity;
pub mod xattr;
