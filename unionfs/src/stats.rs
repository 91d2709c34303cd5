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

impl Union {
    /// The counters as a JSON object; requests that never came are left out.
    pub fn stats_json(&self) -> String {
        let stats = &self.stats;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let requests: Vec<String> = crate::fuse::abi::OPCODES
            .iter()
            .filter_map(|(opcode, name)| {
                let count = get(stats.requests.get(*opcode as usize)?);
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
