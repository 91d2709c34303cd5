//! Every order in which threads can meet in the inode table, as far as Shuttle
//! gets in the given number of schedules. Needs the feature `shuttle`, which
//! puts its locks in the place of the real ones:
//! `cargo test -p unionfs --features shuttle --test inode_table`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FileType;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use unionfs::inode::number::Numbers;
use unionfs::inode::table::{Found, Key, Side, Table};
use unionfs::inode::{Body, File, FileState, Inode, Place, ROOT};
use unionfs::sync::RwLock;

/// Schedules per scenario; more by hand: `SHUTTLE_SCHEDULES=1000000`.
fn schedules() -> usize {
    std::env::var("SHUTTLE_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// Explores a scenario: at random, and with few but well-placed switches, which
/// finds what takes a long run of bad luck.
fn explore(scenario: impl Fn() + Send + Sync + Copy + 'static) {
    let mut config = shuttle::Config::new();
    // The default is too small for a table on the stack of an unoptimized test.
    config.stack_size = 1 << 20;
    shuttle::Runner::new(RandomScheduler::new(schedules()), config.clone()).run(scenario);
    shuttle::Runner::new(PctScheduler::new(3, schedules()), config).run(scenario);
}

fn body() -> Body {
    let state = FileState::at(Place::Upper);
    Body::File(File { state: RwLock::new(state) })
}

struct World {
    table: Table,
    numbers: Numbers,
}

impl World {
    fn new() -> Arc<World> {
        let (table, _root) = Table::new(body());
        Arc::new(World { table, numbers: Numbers::default() })
    }

    /// A lookup that finds a file on disk.
    fn look_up(&self, key: Option<Key>, number: u64) -> (Arc<Inode>, Found) {
        let private = || self.numbers.private();
        self.table.find_or_insert(key, FileType::RegularFile, number, private, body)
    }

    /// A node that is referred to is found by its id, and is that one.
    fn check_live(&self, inode: &Arc<Inode>) {
        let found = self.table.get(inode.id).expect("a node referred to is in the table");
        assert!(Arc::ptr_eq(&found, inode), "two nodes have the id {}", inode.id);
    }

    fn check_empty(&self, keys: &[Key]) {
        assert_eq!(self.table.count(), 1, "only the root is left");
        for key in keys {
            assert!(self.table.find(key).is_none(), "{key:?} leads to a forgotten node");
        }
        assert!(self.table.get(ROOT).is_some());
    }
}

fn lower(ino: u64) -> Key {
    Key { side: Side::Lower, device: 0, ino }
}

fn upper(ino: u64) -> Key {
    Key { side: Side::Upper, device: 0, ino }
}

fn all(threads: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = threads.into_iter().map(|thread| shuttle::thread::spawn(thread)).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn two_lookups_of_one_file_give_one_node() {
    explore(|| {
        let world = World::new();
        let made = Arc::new(AtomicU64::new(0));
        let look = |world: &Arc<World>| -> Box<dyn FnOnce() + Send> {
            let (world, made) = (world.clone(), made.clone());
            Box::new(move || {
                let (inode, found) = world.look_up(Some(lower(7)), 7);
                assert_eq!(inode.id, 7);
                world.check_live(&inode);
                if found == Found::Now {
                    made.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        all(vec![look(&world), look(&world), look(&world)]);
        assert_eq!(made.load(Ordering::Relaxed), 1);
        world.table.forget(7, 3);
        world.check_empty(&[lower(7)]);
    });
}

#[test]
fn a_lookup_that_meets_the_last_forget_has_a_live_node() {
    explore(|| {
        let world = World::new();
        let look_and_forget = |world: &Arc<World>| -> Box<dyn FnOnce() + Send> {
            let world = world.clone();
            Box::new(move || {
                for _ in 0..2 {
                    let (inode, _) = world.look_up(Some(lower(7)), 7);
                    world.check_live(&inode);
                    world.table.forget(inode.id, 1);
                }
            })
        };
        all(vec![look_and_forget(&world), look_and_forget(&world), look_and_forget(&world)]);
        world.check_empty(&[lower(7)]);
    });
}

#[test]
fn a_copied_up_file_is_found_by_both_keys_until_it_is_forgotten() {
    explore(|| {
        let world = World::new();
        let copier = world.clone();
        let copy_up = move || {
            let (inode, _) = copier.look_up(Some(lower(7)), 7);
            copier.table.add_key(&inode, upper(70));
            copier.check_live(&inode);
            copier.table.forget(inode.id, 1);
        };
        let by_upper = |world: &Arc<World>| -> Box<dyn FnOnce() + Send> {
            let world = world.clone();
            Box::new(move || {
                if let Some(inode) = world.table.find(&upper(70)) {
                    assert_eq!(inode.id, 7);
                    world.check_live(&inode);
                    world.table.forget(inode.id, 1);
                }
            })
        };
        let by_lower = world.clone();
        let by_lower = move || {
            let (inode, _) = by_lower.look_up(Some(lower(7)), 7);
            by_lower.check_live(&inode);
            by_lower.table.forget(inode.id, 1);
        };
        all(vec![Box::new(copy_up), by_upper(&world), Box::new(by_lower)]);
        world.check_empty(&[lower(7), upper(70)]);
    });
}

#[test]
fn two_files_with_one_number_are_two_nodes() {
    explore(|| {
        let world = World::new();
        let look = |world: &Arc<World>, key: Option<Key>| -> Box<dyn FnOnce() + Send> {
            let world = world.clone();
            Box::new(move || {
                let (inode, found) = world.look_up(key, 7);
                assert_eq!(found, Found::Now);
                world.check_live(&inode);
                world.table.forget(inode.id, 1);
            })
        };
        // A file without a key is found by its id alone.
        all(vec![look(&world, Some(lower(7))), look(&world, Some(upper(7))), look(&world, None)]);
        world.check_empty(&[lower(7), upper(7)]);
    });
}

#[test]
fn a_number_given_to_another_file_leads_to_the_new_one() {
    explore(|| {
        let world = World::new();
        let (old, _) = world.look_up(Some(upper(7)), 7);
        let remover = world.clone();
        // Removed from disk while something still has it open; the file system
        // gives its number to a new file at once.
        let remove = move || {
            remover.table.remove_key(&old, upper(7));
            let (new, found) = remover.look_up(Some(upper(7)), 7);
            assert_eq!(found, Found::Now);
            assert!(!Arc::ptr_eq(&old, &new));
            remover.check_live(&new);
            remover.table.forget(new.id, 1);
        };
        let closer = world.clone();
        let close = move || {
            closer.table.forget(7, 1);
        };
        let (a, b): (Box<dyn FnOnce() + Send>, Box<dyn FnOnce() + Send>) =
            (Box::new(remove), Box::new(close));
        all(vec![a, b]);
        world.check_empty(&[upper(7)]);
    });
}

#[test]
fn one_forget_may_return_many_references() {
    explore(|| {
        let world = World::new();
        let (inode, _) = world.look_up(Some(lower(7)), 7);
        for _ in 0..3 {
            world.table.refer(&inode);
        }
        let forget = |world: &Arc<World>, count| -> Box<dyn FnOnce() + Send> {
            let world = world.clone();
            Box::new(move || {
                world.table.forget(7, count);
            })
        };
        let looker = world.clone();
        let look = move || {
            let (inode, _) = looker.look_up(Some(lower(7)), 7);
            looker.check_live(&inode);
            looker.table.forget(inode.id, 1);
        };
        all(vec![forget(&world, 3), forget(&world, 1), Box::new(look)]);
        world.check_empty(&[lower(7)]);
        // The root stays, whatever is said.
        world.table.forget(ROOT, 10);
        world.check_empty(&[]);
    });
}
