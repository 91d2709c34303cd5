//! What the daemon has done so far, for who asks.

use crate::Union;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Opcodes of the FUSE protocol are below this.
const OPCODES: usize = 64;

/// Counters; each is exact, all together are not one moment's.
pub struct Stats {
    /// Requests, by opcode.
    pub requests: [AtomicU64; OPCODES],
    /// Files and directories copied up.
    pub copy_ups: AtomicU64,
    /// Bytes of data copied up.
    pub copied_bytes: AtomicU64,
    /// Bytes read through the daemon.
    pub read_bytes: AtomicU64,
    /// Bytes written through the daemon.
    pub written_bytes: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            requests: std::array::from_fn(|_| AtomicU64::new(0)),
            copy_ups: AtomicU64::new(0),
            copied_bytes: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// Counts one request.
    pub fn request(&self, opcode: usize) {
        if let Some(count) = self.requests.get(opcode) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The protocol's names of its opcodes, from `linux/fuse.h`.
const NAMES: [(usize, &str); 44] = [
    (1, "LOOKUP"),
    (2, "FORGET"),
    (3, "GETATTR"),
    (4, "SETATTR"),
    (5, "READLINK"),
    (6, "SYMLINK"),
    (8, "MKNOD"),
    (9, "MKDIR"),
    (10, "UNLINK"),
    (11, "RMDIR"),
    (12, "RENAME"),
    (13, "LINK"),
    (14, "OPEN"),
    (15, "READ"),
    (16, "WRITE"),
    (17, "STATFS"),
    (18, "RELEASE"),
    (20, "FSYNC"),
    (21, "SETXATTR"),
    (22, "GETXATTR"),
    (23, "LISTXATTR"),
    (24, "REMOVEXATTR"),
    (25, "FLUSH"),
    (26, "INIT"),
    (27, "OPENDIR"),
    (28, "READDIR"),
    (29, "RELEASEDIR"),
    (30, "FSYNCDIR"),
    (31, "GETLK"),
    (32, "SETLK"),
    (33, "SETLKW"),
    (34, "ACCESS"),
    (35, "CREATE"),
    (36, "INTERRUPT"),
    (37, "BMAP"),
    (38, "DESTROY"),
    (39, "IOCTL"),
    (40, "POLL"),
    (42, "BATCH_FORGET"),
    (43, "FALLOCATE"),
    (44, "READDIRPLUS"),
    (45, "RENAME2"),
    (46, "LSEEK"),
    (47, "COPY_FILE_RANGE"),
];

impl Union {
    /// The counters as a JSON object; requests that never came are left out.
    pub fn stats_json(&self) -> String {
        let stats = &self.stats;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let requests: Vec<String> = NAMES
            .iter()
            .filter_map(|(opcode, name)| {
                let count = get(stats.requests.get(*opcode)?);
                (count > 0).then(|| format!("\"{name}\":{count}"))
            })
            .collect();
        format!(
            "{{\"requests\":{{{}}},\"copy_ups\":{},\"copied_bytes\":{},\"read_bytes\":{},\"written_bytes\":{},\"cached_inodes\":{},\"cached_names\":{}}}",
            requests.join(","),
            get(&stats.copy_ups),
            get(&stats.copied_bytes),
            get(&stats.read_bytes),
            get(&stats.written_bytes),
            self.table.count(),
            self.layers.maps.names(),
        )
    }
}
