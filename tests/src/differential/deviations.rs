//! Where ours differs from kernel overlayfs on purpose: the one list. Each has
//! its number in `unionfs/SEMANTICS.md`, and as few as possible are here. (Two
//! that concern attributes are in [`super::outcome`]: a merged directory's link
//! count, 30, and the time of a file whose data is copied up after its metadata,
//! 83.)
//!
//! What is not generated at all, because the two are meant to differ:
//! - names that begin with `.wh.`, which ours reserves (94);
//! - O_TMPFILE (87), and what FUSE does not carry: collapsing and inserting
//!   ranges (93);
//! - `chown(-1, -1)`: FUSE sends the same empty request for it as for a write
//!   that takes a file capability away, so ours must guess (96);
//! - supplementary groups (97), which FUSE does not tell: callers have none, and
//!   ACLs are not set by an owner who is not in the file's group;
//! - stores through a mapping of a file with a capability: they take it away
//!   in ours, as write(2) does in both (86);
//! - seeking in directories by anything but the start: positions there are the
//!   file system's own (85).

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

/// What ends a case even where both answers agree, see the one of its number.
pub const LOST_ON_THE_KERNEL: &str =
    "81: the kernel copies a lower object whose name is gone up to that name, whatever is there now";

/// All of them.
pub const DEVIATIONS: &[Deviation] = &[
    Deviation {
        what: "79: a directory rename is never EXDEV: the kernel gives up when a redirect grows too long",
        then: Then::Ends,
        applies: |action, kernel, ours| {
            matches!(action, Action::Rename { .. }) && *kernel == Err(Errno::XDEV) && ours.is_ok()
        },
    },
    Deviation {
        what: "35: a directory that holds nothing but whiteouts is empty; the kernel does not see those that are \
               attributes",
        then: Then::Ends,
        applies: |action, kernel, ours| {
            matches!(action, Action::Rmdir { .. } | Action::Rename { .. })
                && *kernel == Err(Errno::NOTEMPTY)
                && ours.is_ok()
        },
    },
    Deviation {
        what: "82: what the layers hold is not stale; the kernel says so where an index entry or an origin has \
               outlived what it was made for",
        then: Then::Ends,
        applies: |_, kernel, ours| *kernel == Err(Errno::STALE) && ours.is_ok(),
    },
    Deviation {
        what: "84: which zeros are a hole is the file system's business (a read through a page cache of its own \
               fills holes of a tmpfs)",
        then: Then::GoesOn,
        applies: |action, kernel, ours| {
            let is_answer = |outcome: &Outcome| outcome.is_ok() || *outcome == Err(Errno::NXIO);
            matches!(action, Action::Seek { whence: libc::SEEK_DATA | libc::SEEK_HOLE, .. })
                && is_answer(kernel)
                && is_answer(ours)
        },
    },
    Deviation {
        what: "85: read(2) of a directory is EISDIR; the kernel says EINVAL where the position is past what a file \
               may have",
        then: Then::GoesOn,
        applies: |action, kernel, ours| {
            matches!(action, Action::Read { .. })
                && *kernel == Err(Errno::INVAL)
                && *ours == Err(Errno::ISDIR)
        },
    },
    Deviation {
        what: "81: the metadata of a lower object can be changed after its name is gone, or ENOENT says that it is \
               gone; the kernel tries to copy it up to its old name and fails over what it meets there",
        then: Then::Ends,
        applies: |action, kernel, ours| {
            use Action as A;
            let is_metadata = matches!(
                action,
                A::Fchmod { .. } | A::Fchown { .. } | A::Futimens { .. } | A::Fsetxattr { .. }
            );
            let met =
                [Errno::NOTDIR, Errno::ISDIR, Errno::EXIST, Errno::STALE, Errno::NOENT, Errno::NOTEMPTY];
            let fails = |outcome: &Outcome| outcome.as_ref().is_err_and(|errno| met.contains(errno));
            // The kernel succeeds where the old name leads to another of the
            // kind, and changes that.
            let is_gone = *ours == Err(Errno::NOENT);
            is_metadata && (is_gone || fails(kernel) && ours.is_ok())
        },
    },
    Deviation {
        what: "80: fstat of a file whose name is gone shows one link less; the kernel shows a lower file's own count",
        then: Then::GoesOn,
        applies: |action, kernel, ours| match (action, kernel, ours) {
            (Action::Fstat { .. }, Ok(Value::Attributes(kernel)), Ok(Value::Attributes(ours))) => {
                kernel.is_unlinked_in(ours)
            }
            _ => false,
        },
    },
    Deviation {
        what: "82: a remount changes nothing: the kernel brings back an unlinked lower file that was then copied \
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
