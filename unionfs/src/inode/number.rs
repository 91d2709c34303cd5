//! Inode numbers: unique over all layers, the same after copy-up and remount.
//!
//! A file's number is its lower's (or the upper's, for what was made there)
//! with the file system's place in the high bits, kernel overlayfs's `xino`.
//! The first file system met, as a rule the only one, adds nothing.

use super::{NodeId, ROOT};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Bits for the number within its file system.
const NUMBER_BITS: u32 = 48;
/// Numbers with this bit are ours alone and not kept over a remount.
const PRIVATE: u64 = 1 << 63;

/// Gives numbers to files whose own does not do.
#[derive(Default)]
pub struct Numbers(AtomicU64);

impl Numbers {
    /// The number of inode `ino` on the `device`th file system, or a private
    /// one where that cannot be had: too large, or the root's.
    pub fn compose(&self, device: u16, ino: u64) -> NodeId {
        Self::of(device, ino).unwrap_or_else(|| self.private())
    }

    /// The number that [`Numbers::compose`] gives, unless it is a private one.
    pub fn of(device: u16, ino: u64) -> Option<NodeId> {
        let fits = ino >> NUMBER_BITS == 0 && device < 1 << 15;
        let number = ino | u64::from(device) << NUMBER_BITS;
        (fits && number > ROOT).then_some(number)
    }

    /// Device and number on it, of a number that [`Numbers::of`] gave.
    pub fn parts(number: NodeId) -> (u16, u64) {
        ((number >> NUMBER_BITS) as u16, number & ((1 << NUMBER_BITS) - 1))
    }

    /// A number no layer has.
    pub fn private(&self) -> NodeId {
        PRIVATE | self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_between_file_systems_and_never_are_the_roots() {
        let numbers = Numbers::default();
        assert_eq!(numbers.compose(0, 12), 12);
        assert_ne!(numbers.compose(1, 12), numbers.compose(2, 12));
        assert_eq!(numbers.compose(3, 12), numbers.compose(3, 12));
        assert!(numbers.compose(0, 1) > ROOT);
        assert_ne!(numbers.compose(0, 1 << 50), numbers.compose(0, 1 << 50));
    }
}
