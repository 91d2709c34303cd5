//! What several suites share: scratch directories, mounts of a union by ours,
//! by kernel overlayfs or by fuse-overlayfs, and snapshots of trees that can be
//! compared.
//!
//! | module | what |
//! |---|---|
//! | [`scratch`] | a directory that vanishes, on ext4, tmpfs or a small image |
//! | [`mount`] | a union mounted by one of the [`mount::Driver`]s; never left behind |
//! | [`stage`] | the usual directories of a test |
//! | [`watchdog`] | aborts a FUSE mount that no longer answers |
//! | [`tree`] | everything a tree shows, and readable differences |
//! | [`binary`] | the programs under test, built when they are stale |
//! | [`differential`] | one random program on two unions, every answer compared |
//! | [`sys`] | the only unsafe |

pub mod binary;
pub mod differential;
pub mod mount;
pub mod scratch;
pub mod stage;
pub mod sys;
pub mod tree;
pub mod watchdog;

/// Prints why a test did not run. A skipped test is never silent: the gate
/// counts these lines.
pub fn skipped(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
}
