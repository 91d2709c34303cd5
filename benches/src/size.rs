//! How large the trees and loops of the workloads are.

use serde::{Deserialize, Serialize};

/// Every number that `--quick` makes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Small files, of 0.5 to 8 KB, 100 a directory.
    pub small_files: usize,
    /// Names in the one large directory.
    pub flat_names: usize,
    /// Bytes of the file that data workloads read and write.
    pub data_bytes: u64,
    /// Bytes of the file that is copied up.
    pub big_bytes: u64,
    /// Files of the tree whose walk fills the daemon's memory.
    pub many_files: usize,
    /// Files made, renamed and removed by a storm.
    pub storm_files: usize,
    /// Random 4 KiB reads or writes, and appends.
    pub random_operations: usize,
    /// Starts of the interpreter.
    pub starts: usize,
    /// C files compiled.
    pub sources: usize,
    /// Files of the git repository.
    pub tracked_files: usize,
    /// Packages unpacked, of 50 files each.
    pub packages: usize,
    /// Most entries of the Debian tree that are walked.
    pub tree_entries: usize,
    /// Stats by each of the clients whose latency is measured.
    pub latency_operations: usize,
}

impl Sizes {
    /// For figures that are to be quoted.
    pub const FULL: Sizes = Sizes {
        small_files: 20_000,
        flat_names: 10_000,
        data_bytes: 512 << 20,
        big_bytes: 1 << 30,
        many_files: 1_000_000,
        storm_files: 10_000,
        random_operations: 20_000,
        starts: 50,
        sources: 40,
        tracked_files: 2_000,
        packages: 20,
        tree_entries: usize::MAX,
        latency_operations: 10_000,
    };

    /// For a first look, and for tests of the runner itself.
    pub const QUICK: Sizes = Sizes {
        small_files: 1_000,
        flat_names: 1_000,
        data_bytes: 32 << 20,
        big_bytes: 64 << 20,
        many_files: 100_000,
        storm_files: 500,
        random_operations: 1_000,
        starts: 5,
        sources: 8,
        tracked_files: 200,
        packages: 3,
        tree_entries: 5_000,
        latency_operations: 1_000,
    };
}
