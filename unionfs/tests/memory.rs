//! What a file costs that the kernel knows and nobody uses: bytes for each node
//! after a walk of a large tree, as the allocator was asked for them and as the
//! system counts them. Times are no subject here.
//!
//! `cargo test --release -p unionfs --test memory -- --nocapture --test-threads 1`
//! prints the figures; a run beside others cannot tell whose pages are resident.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, Ordering};

use unionfs::Union;
use unionfs::config::{Config, UpperDirs};
use unionfs::inode::{NodeId, ROOT};

#[allow(dead_code)] // Shared with the crate's own tests, which need more of it.
#[path = "../src/sys/scratch.rs"]
mod scratch;
use scratch::Scratch;

/// The system's allocator, counting.
struct Counting;

static REQUESTED: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: usize, sign: isize) {
    REQUESTED.fetch_add(sign * bytes as isize, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One measurement at a time: the counters are the process's.
static ALONE: Mutex<()> = Mutex::new(());

const DIRECTORIES: usize = 50;
const FILES: usize = 1_000;

/// Bytes at one moment.
#[derive(Clone, Copy)]
struct Memory {
    requested: isize,
    resident: isize,
}

impl Memory {
    fn now() -> Memory {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: isize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        let resident = pages * rustix::param::page_size() as isize;
        Memory { requested: REQUESTED.load(Ordering::Relaxed), resident }
    }

    fn since(self, before: Memory) -> Memory {
        Memory { requested: self.requested - before.requested, resident: self.resident - before.resident }
    }
}

/// Names as software trees have them, 18 bytes in the mean.
fn name(directory: usize, file: usize) -> String {
    const STEMS: [&str; 5] = ["lib", "module-main", "test_case_of", "README.translation", "icon"];
    const ENDS: [&str; 4] = [".rs", ".cpython.pyc", ".h", ".so.2.1"];
    format!("{}-{}{}", STEMS[file % STEMS.len()], directory * FILES + file, ENDS[file % ENDS.len()])
}

fn directory(index: usize) -> String {
    format!("directory-{index}")
}

/// A tree whose files are spread over `lowers` layers; with more than one, every
/// directory is in all of them.
fn layers(scratch: &Scratch, lowers: usize) -> Config {
    let dir = |name: String| {
        let path = scratch.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let paths: Vec<_> = (0..lowers).map(|layer| dir(format!("lower{layer}"))).collect();
    for index in 0..DIRECTORIES {
        for path in &paths {
            std::fs::create_dir(path.join(directory(index))).unwrap();
        }
        for file in 0..FILES {
            let layer = &paths[file % lowers];
            std::fs::File::create(layer.join(directory(index)).join(name(index, file))).unwrap();
        }
    }
    let upper = UpperDirs { upper: dir("upper".into()), work: dir("work".into()) };
    Config { lowers: paths, upper: Some(upper), ..Config::default() }
}

fn look_up(union: &Union, parent: NodeId, name: &str) -> NodeId {
    union.lookup(parent, OsStr::from_bytes(name.as_bytes())).unwrap().id
}

/// Looks every name up, keeping each reference, as the kernel does; gives the
/// bytes for each node.
fn walk(union: &Union) -> (Memory, Vec<NodeId>) {
    let mut nodes = Vec::with_capacity(DIRECTORIES * (FILES + 1));
    let before = Memory::now();
    for index in 0..DIRECTORIES {
        let dir = look_up(union, ROOT, &directory(index));
        nodes.push(dir);
        for file in 0..FILES {
            nodes.push(look_up(union, dir, &name(index, file)));
        }
    }
    let all = Memory::now().since(before);
    let count = nodes.len() as isize;
    (Memory { requested: all.requested / count, resident: all.resident / count }, nodes)
}

fn measure(lowers: usize) -> Memory {
    let _alone = ALONE.lock().unwrap();
    let scratch = Scratch::on("/dev/shm", "memory");
    let config = layers(&scratch, lowers);
    let before = Memory::now();
    let union = Union::open(config).unwrap();
    let (each, nodes) = walk(&union);
    for node in nodes {
        union.forget(node, 1);
    }
    let left = Memory::now().since(before);
    println!(
        "{lowers} lowers: {} bytes a node requested, {} resident; {} and {} KiB left after forgetting",
        each.requested,
        each.resident,
        left.requested / 1024,
        left.resident / 1024
    );
    assert!(left.requested < 1 << 20, "what was forgotten is freed");
    each
}

/// What a cold file may cost: the allocator's own overhead comes on top.
const BYTES: isize = 200;

#[test]
fn a_cold_file_of_one_lower() {
    assert!(measure(1).requested <= BYTES);
}

#[test]
fn a_cold_file_of_a_merged_directory() {
    // The names of its directories included.
    assert!(measure(8).requested <= BYTES + 60);
}
