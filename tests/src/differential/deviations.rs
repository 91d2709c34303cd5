//! Where ours differs from kernel overlayfs on purpose: the one list. Each has
//! its number in `unionfs/SEMANTICS.md`, and as few as possible are here.
//!
//! What is not generated at all, because the two are meant to differ:
//! - names that begin with `.wh.`, which ours reserves;
//! - `user.overlay.*` attributes: ours reads marks of that form in every mount,
//!   so it escapes them in every mount, the kernel in `userxattr` mounts only;
//! - O_TMPFILE, and what FUSE does not carry: collapsing and inserting ranges;
//! - seeking in directories by anything but the start: positions there are the
//!   file system's own, and FUSE gives directories no SEEK_DATA.

use rustix::io::Errno;

use super::op::{Action, Op};
use super::outcome::{Outcome, Value};

/// A difference that is meant.
pub struct Deviation {
    /// What differs, and why.
    pub what: &'static str,
    /// What becomes of the case.
    pub then: Then,
    applies: fn(&Action, &Outcome, &Outcome) -> bool,
}

/// How a case goes on after a deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Both sides are in the same state still.
    GoesOn,
    /// They are not, and there is nothing more to compare.
    Ends,
}

/// All of them.
pub const DEVIATIONS: &[Deviation] = &[
    Deviation {
        what: "a directory rename is never EXDEV: the kernel gives up when a redirect grows too long",
        then: Then::Ends,
        applies: |action, kernel, ours| {
            matches!(action, Action::Rename { .. }) && *kernel == Err(Errno::XDEV) && ours.is_ok()
        },
    },
    Deviation {
        what: "a remount changes nothing: the kernel brings back an unlinked lower file that was then copied \
               up through an open descriptor",
        then: Then::Ends,
        applies: |action, kernel, ours| {
            matches!(action, Action::Remount | Action::Swap)
                && matches!(kernel, Ok(Value::Lines(lines)) if !lines.is_empty())
                && *ours == Ok(Value::Lines(Vec::new()))
        },
    },
];

/// The deviation that explains a difference, if one does.
pub fn explains(op: &Op, kernel: &Outcome, ours: &Outcome) -> Option<&'static Deviation> {
    DEVIATIONS.iter().find(|deviation| (deviation.applies)(&op.action, kernel, ours))
}
