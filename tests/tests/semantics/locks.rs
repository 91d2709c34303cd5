//! Locks, between processes.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;
use tests::stage::put;
use tests::sys::ofd_lock;

use crate::open::edit;
use crate::scene::{Plan, run};

/// Whether another process gets the lock that this line of Python takes on
/// the file.
fn other_gets(path: &Path, lock: &str) -> bool {
    let script = format!(
        "import fcntl, os, struct, sys\nf = os.open(sys.argv[1], os.O_RDWR)\n\
         ofd = lambda kind, start, n: fcntl.fcntl(f, 37, struct.pack('hhqqi4x', kind, 0, start, n, 0))\n\
         try:\n  {lock}\nexcept BlockingIOError:\n  sys.exit(9)\n"
    );
    let status = std::process::Command::new("python3").args(["-c", &script]).arg(path).status().unwrap();
    assert!(matches!(status.code(), Some(0 | 9)), "python3: {status}");
    status.success()
}

const EXCLUSIVE: &str = "fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)";
const SHARED: &str = "fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)";

#[test]
fn s63_flock() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap());
    let seen = plan.same(|s| {
        let path = s.at("f");
        let file = edit(&path);
        let gets = |lock| other_gets(&path, lock);
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let exclusive = [gets(EXCLUSIVE), gets(SHARED)];
        flock(&file, FlockOperation::NonBlockingLockShared).unwrap();
        let shared = [gets(EXCLUSIVE), gets(SHARED)];
        drop(file);
        (exclusive, shared, gets(EXCLUSIVE), run("flock", &["-n", path.to_str().unwrap(), "true"]).0)
    });
    assert_eq!(seen, ([false, false], [false, true], true, true));
}

#[test]
fn s64_record_locks() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap());
    let seen = plan.same(|s| {
        let path = s.at("f");
        let file = edit(&path);
        let gets = |lock| other_gets(&path, lock);
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let posix = [
            gets("fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5)"),
            gets("ofd(fcntl.F_RDLCK, 5, 1)"),
            gets(EXCLUSIVE),
        ];
        fcntl_lock(&file, FlockOperation::Unlock).unwrap();
        ofd_lock(file.as_fd(), libc::F_WRLCK, 10, 10).unwrap();
        let second = edit(&path);
        let ofd = [
            gets("ofd(fcntl.F_WRLCK, 15, 1)"),
            gets("fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 15)"),
            gets("ofd(fcntl.F_WRLCK, 20, 1)"),
        ];
        let own = ofd_lock(second.as_fd(), libc::F_RDLCK, 10, 1).map_err(|e| Errno::from_io_error(&e));
        drop(file);
        (posix, ofd, own, gets("ofd(fcntl.F_WRLCK, 15, 1)"))
    });
    assert_eq!(seen.0, [false, false, true]);
    assert_eq!(seen.1, [false, false, true]);
    assert_eq!((seen.2, seen.3), (Err(Some(Errno::AGAIN)), true));
}

#[test]
fn s65_locks_outlive_copy_up() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap()).coherent();
    let seen = plan.same(|s| {
        let path = s.at("f");
        let reader = File::open(&path).unwrap();
        flock(&reader, FlockOperation::NonBlockingLockExclusive).unwrap();
        ofd_lock(reader.as_fd(), libc::F_RDLCK, 0, 1).unwrap();
        edit(&path).write_all_at(b"y", 0).unwrap();
        assert_eq!(fs::read(s.upper("f")).unwrap(), b"y");
        [other_gets(&path, SHARED), other_gets(&path, "ofd(fcntl.F_WRLCK, 0, 1)")]
    });
    assert_eq!(seen, [false, false]);
}
