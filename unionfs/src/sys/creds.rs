//! Acting as the caller while a file is made, so that it is born with the
//! caller's owner: no chown afterwards, and quotas charge the right account.
//!
//! `setfsuid(2)` and `setfsgid(2)` change the calling thread only. Normally a
//! change away from user 0 also takes the file capabilities
//! (`CAP_DAC_OVERRIDE` and so on) away; the daemon needs those to reach into
//! its own `work` directory, so every thread first sets
//! `SECBIT_NO_SETUID_FIXUP` ([`keep_capabilities`]). What the caller may do has
//! been decided by the kernel before a request arrives.
//!
//! The rule: **outside an [`As`] a thread is the daemon.** The guard puts the
//! former ids back when it is dropped. Leaving them in place would save two
//! system calls, but then each whiteout or temporary file made later by that
//! thread would belong to whoever was served last, unless everyone remembered
//! to say otherwise. A caller who is the daemon's own user costs no call at all.
//!
//! Changing ids makes the process "not dumpable": no core file, and no tracing
//! by its own user without `CAP_SYS_PTRACE`. `/proc/self/fd` keeps working.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet};

/// As whom this process can make files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// As any caller, keeping its own capabilities.
    AnyCaller,
    /// As itself only; owners are set by chown, as far as that is allowed.
    DaemonOnly,
}

/// Whether [`As::caller`] has an effect. Asked of the kernel once: it takes the
/// capabilities to change both ids and to keep the others while doing so.
pub fn can_act_as_others() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETPCAP;
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
    })
}

/// Makes the calling thread keep its capabilities when it acts as a caller.
/// [`As`] does so on a thread's first change; a thread that serves requests
/// calls it before, to hear of a refusal early.
///
/// # Errors
/// What `prctl(2)` says, in a process that has the privilege.
pub fn keep_capabilities() -> rustix::io::Result<Privilege> {
    if !can_act_as_others() {
        return Ok(Privilege::DaemonOnly);
    }
    let bits = rustix::thread::capabilities_secure_bits()?;
    rustix::thread::set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    Ok(Privilege::AnyCaller)
}

/// The two ids that new files get.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ids {
    uid: u32,
    gid: u32,
}

thread_local! {
    /// What this thread's ids are now; the kernel is asked only the first time.
    static CURRENT: Cell<Option<Ids>> = const { Cell::new(None) };
    /// Whom it could become last. A user namespace's ids are given once, so that
    /// it can again.
    static REACHED: Cell<Option<Ids>> = const { Cell::new(None) };
}

/// While this lives, the thread makes files as someone. Guards nest.
#[must_use = "the ids change back when this is dropped"]
pub struct As {
    before: Option<Ids>,
    /// The ids are the thread's: the guard must not leave it.
    _not_send: PhantomData<*const ()>,
}

impl As {
    /// As the caller of a request, in ids of the disk. Has no effect where
    /// [`can_act_as_others`] says no.
    ///
    /// # Errors
    /// `EOVERFLOW` where this process's user namespace has no such id; the
    /// thread's ids are then as before. On a thread's first change, what
    /// [`keep_capabilities`] gave.
    pub fn caller(uid: u32, gid: u32) -> rustix::io::Result<As> {
        As::become_ids(Ids { uid, gid })
    }

    /// As the daemon itself, for what is nobody's (whiteouts, `work`) while a
    /// caller's guard is alive.
    ///
    /// # Errors
    /// As [`As::caller`].
    pub fn daemon() -> rustix::io::Result<As> {
        As::become_ids(Ids {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        })
    }

    fn become_ids(wanted: Ids) -> rustix::io::Result<As> {
        let nothing = As { before: None, _not_send: PhantomData };
        if !can_act_as_others() {
            return Ok(nothing);
        }
        let current = current()?;
        if current == wanted {
            return Ok(nothing);
        }
        // From here on the guard undoes what was done, also on an error.
        let guard = As { before: Some(current), _not_send: PhantomData };
        change(current, wanted);
        if REACHED.get() == Some(wanted) {
            CURRENT.set(Some(wanted));
            return Ok(guard);
        }
        let reached = raw::ids();
        CURRENT.set(Some(reached));
        if reached != wanted {
            return Err(Errno::OVERFLOW);
        }
        REACHED.set(Some(wanted));
        Ok(guard)
    }
}

impl Drop for As {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // The thread had these ids: they are mapped, this cannot fail.
            if let Some(now) = CURRENT.get() {
                change(now, before);
            }
            CURRENT.set(Some(before));
        }
    }
}

fn current() -> rustix::io::Result<Ids> {
    if let Some(ids) = CURRENT.get() {
        return Ok(ids);
    }
    keep_capabilities()?;
    let ids = raw::ids();
    CURRENT.set(Some(ids));
    Ok(ids)
}

/// The group first: in either order the capabilities stay.
fn change(from: Ids, to: Ids) {
    if from.gid != to.gid {
        raw::set_gid(to.gid);
    }
    if from.uid != to.uid {
        raw::set_uid(to.uid);
    }
}

/// The system calls, which answer with the former id and report no error.
mod raw {
    use super::Ids;

    /// No id at all: a change to it never happens, the answer is the present id.
    const NO_ID: u32 = u32::MAX;

    pub fn set_uid(uid: u32) -> u32 {
        // SAFETY: takes a number, touches no memory; changes this thread only
        // (the C library does not spread it to others, as it does setuid).
        let former = unsafe { libc::setfsuid(uid) };
        former as u32
    }

    pub fn set_gid(gid: u32) -> u32 {
        // SAFETY: as in `set_uid`.
        let former = unsafe { libc::setfsgid(gid) };
        former as u32
    }

    pub fn ids() -> Ids {
        Ids { uid: set_uid(NO_ID), gid: set_gid(NO_ID) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use super::*;
    use crate::sys::scratch::Scratch;

    fn owner_of_new(path: &Path) -> (u32, u32) {
        File::create(path).unwrap();
        let meta = path.metadata().unwrap();
        (meta.uid(), meta.gid())
    }

    fn is_able(test: &str) -> bool {
        if !can_act_as_others() {
            println!("skipped: {test} needs CAP_SETUID, CAP_SETGID and CAP_SETPCAP");
        }
        can_act_as_others()
    }

    #[test]
    fn a_caller_owns_what_is_made_and_the_daemon_keeps_its_powers() {
        if !is_able("acting as a caller") {
            return;
        }
        let dir = Scratch::new("creds");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let path = dir.path().to_owned();
        let daemon = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        std::thread::spawn(move || {
            assert_eq!(keep_capabilities(), Ok(Privilege::AnyCaller));
            let caller = As::caller(1000, 1001).unwrap();
            // The directory is root's and 0700: only CAP_DAC_OVERRIDE gets in.
            assert_eq!(owner_of_new(&path.join("caller")), (1000, 1001));
            let same = As::caller(1000, 1001).unwrap();
            assert!(same.before.is_none());
            drop(same);
            {
                let _daemon = As::daemon().unwrap();
                assert_eq!(owner_of_new(&path.join("nested")), daemon);
            }
            assert_eq!(owner_of_new(&path.join("again")), (1000, 1001));
            let other = path.clone();
            let made = std::thread::spawn(move || owner_of_new(&other.join("other-thread")));
            // A thread inherits its parent's ids; it is not the parent's guard.
            assert_eq!(made.join().unwrap(), (1000, 1001));
            drop(caller);
            assert_eq!(owner_of_new(&path.join("after")), daemon);
        })
        .join()
        .unwrap();
        assert_eq!(owner_of_new(&dir.path().join("main")), daemon);
    }

    #[test]
    fn a_running_thread_is_not_changed_by_another() {
        if !is_able("two threads") {
            return;
        }
        let dir = Scratch::new("creds");
        let path = dir.path().to_owned();
        let (start, started) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            started.recv().unwrap();
            owner_of_new(&path.join("other")).0
        });
        let path = dir.path().to_owned();
        let acting = std::thread::spawn(move || {
            let _caller = As::caller(1000, 1000).unwrap();
            start.send(()).unwrap();
            let owner = other.join().unwrap();
            (owner, owner_of_new(&path.join("acting")).0)
        });
        assert_eq!(acting.join().unwrap(), (rustix::process::geteuid().as_raw(), 1000));
    }

    #[test]
    fn an_impossible_id_is_an_error_and_changes_nothing() {
        if !is_able("an impossible id") {
            return;
        }
        let dir = Scratch::new("creds");
        let path = dir.path().to_owned();
        std::thread::spawn(move || {
            keep_capabilities().unwrap();
            assert_eq!(As::caller(u32::MAX, 1000).err(), Some(Errno::OVERFLOW));
            assert_eq!(owner_of_new(&path.join("file")).1, rustix::process::getegid().as_raw());
        })
        .join()
        .unwrap();
    }
}
