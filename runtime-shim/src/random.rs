//! Random bytes, and ids made of them.

use std::io;

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::failure::{Context, Result};

/// Bytes that nobody can guess.
///
/// # Errors
/// The kernel's, where it has none.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += retry_on_intr(|| getrandom(&mut *rest, GetRandomFlags::empty()))?;
    }
    Ok(bytes)
}

/// 64 hexadecimal digits, as docker's ids.
pub fn id() -> Result<String> {
    let bytes = bytes::<32>().context(|| "cannot make an id".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
