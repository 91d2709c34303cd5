//! System calls without policy, on borrowed descriptors and checked names; the
//! only place with `unsafe`.

pub mod copy;
pub mod creds;
pub mod handle;
#[cfg(test)]
pub mod scratch;
pub mod xattr;
