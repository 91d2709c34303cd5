//! Random operations on a union and on a reference in memory, compared after
//! every step: errno by errno, then the whole trees.
//!
//! The union is the engine itself, called in process without a mount. The same
//! sequences also run on kernel overlayfs, which shows that the reference is
//! right. `PROPTEST_CASES` sets how many sequences; a failure is shrunk and
//! printed as the layers and steps that make it, for `regressions.rs`.

mod compare;
mod engine;
mod kernel;
mod layers;
mod reference;
mod regressions;
mod relay;
#[allow(dead_code)] // Shared with the crate's own tests, which need more of it.
#[path = "../../src/sys/scratch.rs"]
mod scratch;
mod steps;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use compare::{Inodes, Seen};
use engine::{Cache, Engine};
use layers::{Form, Layer};
use reference::{Content, Node, Refused, Tree};
use scratch::Scratch;
use steps::{Change, Operation, Step};

/// Where one sequence plays.
pub struct Directories {
    scratch: [Scratch; 2],
    /// Topmost first.
    pub lowers: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// Where changes are staged.
    pub work: PathBuf,
    /// For a union that has to be mounted.
    pub merged: PathBuf,
}

/// A union that operations can be tried on.
pub trait Subject {
    /// Does it; the errno if it fails.
    fn apply(&mut self, operation: &Operation) -> Result<(), rustix::io::Errno>;
    /// Everything there is, by path.
    fn observe(&mut self) -> Seen;
    /// Whether a file has the same inode number after an operation.
    fn keeps_number(&self, _content: &Content, _operation: &Operation) -> bool {
        true
    }
    /// A file that may have lost its last name, by its inode number; `None` where
    /// nothing of it is kept.
    fn look_at_nameless(&mut self, _ino: u64) -> Option<Node> {
        None
    }
    /// Changes such a file; false where it is not kept.
    fn change_nameless(&mut self, _ino: u64, _change: &Change) -> bool {
        false
    }
    /// Whether what VFS refuses can be asked: not without a mount.
    fn has_vfs(&self) -> bool;
}

impl Directories {
    fn make(layers: &[Layer]) -> (Directories, Tree) {
        Directories::make_as(layers, Form::default())
    }

    fn make_as(layers: &[Layer], form: Form) -> (Directories, Tree) {
        // In memory, where there are attributes, whiteouts and handles too.
        let in_memory = Path::new("/dev/shm").is_dir();
        let parent = if in_memory { "/dev/shm".into() } else { std::env::temp_dir() };
        let scratch = [Scratch::on(parent, "model"), Scratch::new("model")];
        let path = |which: usize, name: &str| {
            let path = scratch[which].path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let lower = |number: usize| path(number % form.file_systems, &format!("lower{number}"));
        let lowers: Vec<_> = (0..layers.len()).map(lower).collect();
        let tree = layers::make(layers, &lowers, form);
        let (upper, work, merged) = (path(0, "upper"), path(0, "work"), path(0, "merged"));
        (Directories { lowers, upper, work, merged, scratch }, tree)
    }
}

impl Directories {
    /// The upper as the topmost of the lowers, under another one. Its redirects
    /// and metacopies then are a lower layer's.
    fn stacked(mut self) -> Directories {
        let path = |name: &str| {
            let path = self.scratch[0].path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (upper, work, merged) = (path("second-upper"), path("second-work"), path("second-merged"));
        self.lowers.insert(0, self.upper);
        Directories { upper, work, merged, ..self }
    }
}

/// Plays one sequence; the tree that is there at the end.
fn play(subject: &mut dyn Subject, mut tree: Tree, steps: &[Step]) -> Result<Tree, TestCaseError> {
    let mut inodes = Inodes::default();
    compare::same(&tree, &subject.observe(), &mut inodes, "at first")?;
    for step in steps.iter().chain([&Step::Reopen]) {
        if let Step::ChangeNameless { which, change } = step {
            let Some((id, ino)) = inodes.pick_nameless(which) else { continue };
            if subject.change_nameless(ino, change) {
                change.on_reference(tree.node_mut(id));
            }
            compare::same_nameless(&tree, subject, &inodes, &format!("after {change:?}"))?;
            continue;
        }
        let Some(operation) = step.on(&tree) else { continue };
        let expected = operation.on_reference(&mut tree);
        match expected {
            Ok(()) => prop_assert_eq!(subject.apply(&operation), Ok(()), "{:?}", operation),
            Err(Refused::With(errno)) => {
                prop_assert_eq!(subject.apply(&operation), Err(errno), "{:?}", operation);
            }
            Err(Refused::ByVfs) if subject.has_vfs() => drop(subject.apply(&operation)),
            Err(Refused::ByVfs) => continue,
        }
        inodes.retain(|id| subject.keeps_number(&tree.node(id).content, &operation));
        let when = format!("after {operation:?}");
        compare::same(&tree, &subject.observe(), &mut inodes, &when)?;
        if matches!(operation, Operation::Reopen) {
            inodes.forget_nameless();
        }
        compare::same_nameless(&tree, subject, &inodes, &when)?;
    }
    Ok(tree)
}

fn sequences(default: u32) -> ProptestConfig {
    let from_environment = std::env::var("PROPTEST_CASES").is_ok();
    let config = ProptestConfig { failure_persistence: None, max_shrink_iters: 4000, ..Default::default() };
    if from_environment { config } else { ProptestConfig { cases: default, ..config } }
}

fn engine_agrees(cache: Cache) {
    let (layers, steps) = (layers::layers(), steps::steps(30));
    proptest!(sequences(100), |(layers in layers, steps in steps, options in engine::options(), form in layers::forms())| {
        let form = Form { namespace: options.namespace, ..form };
        let (directories, tree) = Directories::make_as(&layers, form);
        let before = compare::fingerprint(&directories.lowers);
        play(&mut Engine::with(&directories, cache, &options), tree, &steps)?;
        prop_assert_eq!(before, compare::fingerprint(&directories.lowers));
    });
}

#[test]
fn the_engine_agrees_when_everything_is_cached() {
    engine_agrees(Cache::Keeps);
}

#[test]
fn the_engine_agrees_when_nothing_is_cached() {
    engine_agrees(Cache::Forgets);
}

/// Plays one sequence, then another over what the first one left.
fn stacked_agrees(open: impl Fn(&Directories) -> Box<dyn Subject>) {
    let layers = layers::layers_without_hard_links();
    proptest!(sequences(100), |(layers in layers, below in steps::steps(20), steps in steps::steps(20))| {
        let (directories, tree) = Directories::make(&layers);
        let tree = play(&mut *open(&directories), tree, &below)?;
        let directories = directories.stacked();
        let before = compare::fingerprint(&directories.lowers);
        play(&mut *open(&directories), tree, &steps)?;
        prop_assert_eq!(before, compare::fingerprint(&directories.lowers));
    });
}

#[test]
fn the_engine_agrees_over_an_upper_used_as_a_lower() {
    stacked_agrees(|directories| Box::new(Engine::new(directories, Cache::Forgets)));
}

#[test]
fn kernel_overlayfs_agrees_over_an_upper_used_as_a_lower() {
    match kernel::Mounted::is_possible() {
        Ok(()) => stacked_agrees(|directories| Box::new(kernel::Mounted::new(directories))),
        Err(reason) => println!("skipped: {reason}"),
    }
}

#[test]
fn the_engine_and_kernel_overlayfs_take_turns() {
    if let Err(reason) = kernel::Mounted::is_possible() {
        println!("skipped: {reason}");
        return;
    }
    let (layers, steps) = (layers::layers(), steps::steps(30));
    proptest!(sequences(100), |(layers in layers, steps in steps, first in relay::turn(), spread in 1..3_usize)| {
        let form = Form { file_systems: spread, ..Form::default() };
        let (directories, tree) = Directories::make_as(&layers, form);
        let before = compare::fingerprint(&directories.lowers);
        play(&mut relay::Relay::new(&directories, first, form), tree, &steps)?;
        prop_assert_eq!(before, compare::fingerprint(&directories.lowers));
    });
}

#[test]
fn kernel_overlayfs_agrees_with_the_reference() {
    if let Err(reason) = kernel::Mounted::is_possible() {
        println!("skipped: {reason}");
        return;
    }
    proptest!(sequences(64), |(layers in layers::layers(), steps in steps::steps(30))| {
        let (directories, tree) = Directories::make(&layers);
        let before = compare::fingerprint(&directories.lowers);
        play(&mut kernel::Mounted::new(&directories), tree, &steps)?;
        prop_assert_eq!(before, compare::fingerprint(&directories.lowers));
    });
}
