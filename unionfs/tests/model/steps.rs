//! Random operations. Operands are indices into what is there at that moment, so
//! that nearly every step hits something and shrinking stays meaningful.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::layers::NAMES;
use crate::reference::{self, Content, Ids, Node, Replace, Slot, Tree};

/// One operation, before it is known what is there.
#[derive(Clone, Debug)]
pub enum Step {
    Make {
        at: Free,
        what: Content,
        mode: u32,
        by: Ids,
    },
    Unlink(Index),
    Rmdir(Index),
    Link {
        file: Index,
        new: Free,
    },
    Rename {
        from: Index,
        to: Free,
        replace: Replace,
    },
    Write {
        file: Index,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: Index,
        len: usize,
    },
    Chmod {
        file: Index,
        mode: u32,
    },
    Chown {
        file: Index,
        ids: Ids,
    },
    SetXattr {
        file: Index,
        name: &'static str,
        value: Option<Vec<u8>>,
    },
    /// To a file that is open, and has no name any more.
    ChangeNameless {
        which: Index,
        change: Change,
    },
    /// Another union on the same directories takes over.
    Reopen,
}

/// A change through a descriptor.
#[derive(Clone, Debug)]
pub enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
    Chmod(u32),
}

impl Change {
    /// What the reference makes of it.
    pub fn on_reference(&self, node: &mut Node) {
        match (self, &mut node.content) {
            (Change::Write(offset, bytes), Content::File(data)) => reference::write(data, *offset, bytes),
            (Change::Truncate(len), Content::File(data)) => data.resize(*len, 0),
            (Change::Chmod(mode), Content::File(_)) => node.mode = *mode,
            _ => {}
        }
    }
}

/// A name in some directory.
#[derive(Clone, Debug)]
pub struct Free {
    dir: Index,
    name: usize,
}

/// The same operation on real names.
#[derive(Clone, Debug)]
pub enum Operation {
    Make { at: Slot, what: Content, mode: u32, by: Ids },
    Unlink(Slot),
    Rmdir(Slot),
    Link { file: Slot, new: Slot },
    Rename { from: Slot, to: Slot, replace: Replace },
    Write { file: Slot, offset: usize, bytes: Vec<u8> },
    Truncate { file: Slot, len: usize },
    Chmod { file: Slot, mode: u32 },
    Chown { file: Slot, ids: Ids },
    SetXattr { file: Slot, name: &'static str, value: Option<Vec<u8>> },
    Reopen,
}

/// Sequences of up to `max` steps.
pub fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..max)
}

fn step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        3 => Just((Content::Dir(Default::default()), 0o755)),
        3 => Just((Content::File(Vec::new()), 0o644)),
        1 => Just((Content::Symlink("b".into()), 0o777)),
        1 => Just((Content::Fifo, 0o600)),
    ];
    let make = (free(), what, ids());
    let mode = prop_oneof![Just(0o644), Just(0o600), Just(0o2775), Just(0o700), Just(0o4755), Just(0)];
    let replace = prop_oneof![
        6 => Just(Replace::Allowed),
        1 => Just(Replace::Refused),
        2 => Just(Replace::Exchange),
    ];
    let bytes = prop::collection::vec(any::<u8>(), 1..30);
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..10));
    let name = prop_oneof![Just("user.x"), Just("user.y")];
    prop_oneof![
        6 => make.prop_map(|(at, (what, mode), by)| Step::Make { at, what, mode, by }),
        4 => any::<Index>().prop_map(Step::Unlink),
        3 => any::<Index>().prop_map(Step::Rmdir),
        2 => (any::<Index>(), free()).prop_map(|(file, new)| Step::Link { file, new }),
        7 => (any::<Index>(), free(), replace)
            .prop_map(|(from, to, replace)| Step::Rename { from, to, replace }),
        3 => (any::<Index>(), 0..30_usize, bytes)
            .prop_map(|(file, offset, bytes)| Step::Write { file, offset, bytes }),
        2 => (any::<Index>(), 0..40_usize).prop_map(|(file, len)| Step::Truncate { file, len }),
        2 => (any::<Index>(), mode).prop_map(|(file, mode)| Step::Chmod { file, mode }),
        1 => (any::<Index>(), ids()).prop_map(|(file, ids)| Step::Chown { file, ids }),
        2 => (any::<Index>(), name, value)
            .prop_map(|(file, name, value)| Step::SetXattr { file, name, value }),
        2 => (any::<Index>(), change()).prop_map(|(which, change)| Step::ChangeNameless { which, change }),
        1 => Just(Step::Reopen),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..30_usize, prop::collection::vec(any::<u8>(), 1..30))
            .prop_map(|(offset, bytes)| Change::Write(offset, bytes)),
        (0..40_usize).prop_map(Change::Truncate),
        Just(Change::Chmod(0o640)),
    ]
}

fn ids() -> impl Strategy<Value = Ids> {
    prop_oneof![2 => Just(Ids { uid: 0, gid: 0 }), 1 => Just(Ids { uid: 1000, gid: 1001 })]
}

fn free() -> impl Strategy<Value = Free> {
    (any::<Index>(), 0..NAMES.len()).prop_map(|(dir, name)| Free { dir, name })
}

impl Free {
    fn slot(&self, tree: &Tree) -> Slot {
        Slot { dir: self.dir.get(&tree.dirs()).clone(), name: NAMES[self.name].into() }
    }
}

impl Step {
    /// What it means in `tree`; `None` where it needs something and nothing is
    /// there.
    pub fn on(&self, tree: &Tree) -> Option<Operation> {
        let entries = tree.entries();
        let existing = |index: &Index| (!entries.is_empty()).then(|| index.get(&entries).clone());
        Some(match self.clone() {
            Step::Make { at, what, mode, by } => Operation::Make { at: at.slot(tree), what, mode, by },
            Step::Unlink(file) => Operation::Unlink(existing(&file)?),
            Step::Rmdir(dir) => Operation::Rmdir(existing(&dir)?),
            Step::Link { file, new } => Operation::Link { file: existing(&file)?, new: new.slot(tree) },
            Step::Rename { from, to, replace } => {
                Operation::Rename { from: existing(&from)?, to: to.slot(tree), replace }
            }
            Step::Write { file, offset, bytes } => Operation::Write { file: existing(&file)?, offset, bytes },
            Step::Truncate { file, len } => Operation::Truncate { file: existing(&file)?, len },
            Step::Chmod { file, mode } => Operation::Chmod { file: existing(&file)?, mode },
            Step::Chown { file, ids } => Operation::Chown { file: existing(&file)?, ids },
            Step::SetXattr { file, name, value } => {
                Operation::SetXattr { file: existing(&file)?, name, value }
            }
            // Has no path: the caller does it.
            Step::ChangeNameless { .. } => return None,
            Step::Reopen => Operation::Reopen,
        })
    }
}

impl Operation {
    /// What the reference makes of it.
    pub fn on_reference(&self, tree: &mut Tree) -> Result<(), crate::reference::Refused> {
        match self {
            Operation::Make { at, what, mode, by } => tree.make(at, what.clone(), *mode, *by),
            Operation::Unlink(file) => tree.unlink(file),
            Operation::Rmdir(dir) => tree.rmdir(dir),
            Operation::Link { file, new } => tree.link(file, new),
            Operation::Rename { from, to, replace } => tree.rename(from, to, *replace),
            Operation::Write { file, offset, bytes } => tree.write(file, *offset, bytes),
            Operation::Truncate { file, len } => tree.truncate(file, *len),
            Operation::Chmod { file, mode } => tree.chmod(file, *mode),
            Operation::Chown { file, ids } => tree.chown(file, *ids),
            Operation::SetXattr { file, name, value } => tree.set_xattr(file, name, value.as_deref()),
            Operation::Reopen => Ok(()),
        }
    }
}
