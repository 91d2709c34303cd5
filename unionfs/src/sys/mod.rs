//! System calls without policy, on borrowed descriptors and checked names; the
//! only place with `unsafe`.

pub mod creds;
#[cfg(test)]
pub mod scratch;
pub mod xattr;
