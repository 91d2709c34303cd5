//! What a file said of itself once and goes on saying until it is changed, which
//! comes through the mount.
//!
//! Few files have extended attributes, yet the kernel asks for a capability
//! before it writes, and programs that list or copy ask for access lists. What
//! is learnt here costs no system call any more, and no memory: it has its place
//! where an inode had none in use.

use crate::sync::atomic::{AtomicU16, Ordering};

/// One such fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fact {
    /// It has no `security.capability`.
    NoCapability = 1,
    /// It has no `security.selinux`.
    NoLabel = 2,
    /// It has no `system.posix_acl_access`.
    NoAccessAcl = 4,
    /// It has no `system.posix_acl_default`.
    NoDefaultAcl = 8,
    /// It has no attribute that a listing shows.
    NothingListed = 16,
    /// It may be executed; of a lower's, which keeps its mode.
    Program = 32,
    /// It may not; likewise.
    NoProgram = 64,
    /// Its mode has no set-id bits that a write would take.
    NoSetId = 128,
}

impl Fact {
    /// That a file has no attribute of a name, where many are asked for that one.
    pub fn lacks(name: &[u8]) -> Option<Fact> {
        match name {
            b"security.capability" => Some(Fact::NoCapability),
            b"security.selinux" => Some(Fact::NoLabel),
            b"system.posix_acl_access" => Some(Fact::NoAccessAcl),
            b"system.posix_acl_default" => Some(Fact::NoDefaultAcl),
            _ => None,
        }
    }
}

/// The facts known of a file, in the low bits. Above, how often they were
/// forgotten: a count that wraps, but not while one system call is made.
#[derive(Default)]
pub struct Learnt(AtomicU16);

/// When a file was asked.
#[derive(Clone, Copy)]
pub struct Moment(u16);

impl Moment {
    /// Before anything could be done to it.
    pub const BIRTH: Moment = Moment(0);
}

const FACTS: u16 = 0xff;

impl Learnt {
    /// Whether a fact is known.
    pub fn has(&self, fact: Fact) -> bool {
        self.0.load(Ordering::Acquire) & fact as u16 != 0
    }

    /// To be had before the file is asked.
    pub fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::Acquire) & !FACTS)
    }

    /// Notes what the file said, unless it may have been changed since it was
    /// asked.
    pub fn note(&self, since: Moment, fact: Fact) {
        let add = |known: u16| (known & !FACTS == since.0).then_some(known | fact as u16);
        // What is not noted is asked for once more.
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).ok();
    }

    /// Forgets one fact, which is so no more.
    pub fn refute(&self, fact: Fact) {
        let next = |known: u16| Some(known.wrapping_add(FACTS + 1) & !(fact as u16));
        // This cannot fail: there always is a next.
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok();
    }

    /// Forgets everything, once the file is another or has another attribute.
    pub fn forget(&self) {
        let next = |known: u16| Some((known & !FACTS).wrapping_add(FACTS + 1));
        // This cannot fail: there always is a next.
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_a_change_is_not_noted_after_it() {
        let learnt = Learnt::default();
        let before = learnt.now();
        learnt.note(before, Fact::NoCapability);
        learnt.note(before, Fact::NothingListed);
        assert!(learnt.has(Fact::NoCapability) && learnt.has(Fact::NothingListed));
        assert!(!learnt.has(Fact::NoLabel));
        learnt.forget();
        assert!(!learnt.has(Fact::NoCapability));
        learnt.note(before, Fact::NoCapability);
        assert!(!learnt.has(Fact::NoCapability));
        learnt.note(learnt.now(), Fact::NoCapability);
        assert!(learnt.has(Fact::NoCapability));
    }

    #[test]
    fn one_fact_is_refuted_alone() {
        let learnt = Learnt::default();
        let before = learnt.now();
        learnt.note(before, Fact::NoCapability);
        learnt.note(before, Fact::NoSetId);
        learnt.refute(Fact::NoSetId);
        assert!(learnt.has(Fact::NoCapability) && !learnt.has(Fact::NoSetId));
        learnt.note(before, Fact::NoSetId);
        assert!(!learnt.has(Fact::NoSetId), "said before it was refuted");
    }
}
