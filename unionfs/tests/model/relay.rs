//! The engine and kernel overlayfs in turns on the same directories: whenever a
//! union is opened anew, the other one does it. What one writes, the other must
//! read.

use proptest::prelude::*;
use rustix::io::Errno;

use crate::compare::Seen;
use crate::engine::{Cache, Engine};
use crate::kernel::Mounted;
use crate::layers::Form;
use crate::reference::Content;
use crate::steps::Operation;
use crate::{Directories, Subject};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Engine,
    Kernel,
}

pub fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![Just(Turn::Engine), Just(Turn::Kernel)]
}

pub struct Relay<'a> {
    directories: &'a Directories,
    turn: Turn,
    /// Over several file systems, each composes inode numbers in its own way.
    have_same_numbers: bool,
    now: Option<Box<dyn Subject>>,
}

impl Relay<'_> {
    pub fn new(directories: &Directories, first: Turn, form: Form) -> Relay<'_> {
        let have_same_numbers = form.file_systems == 1;
        let mut relay = Relay { directories, turn: first, have_same_numbers, now: None };
        relay.open();
        relay
    }

    /// Opens the one whose turn it is; the other is gone.
    fn open(&mut self) {
        self.now = None;
        self.now = Some(match self.turn {
            Turn::Engine => Box::new(Engine::new(self.directories, Cache::Keeps)),
            Turn::Kernel => Box::new(Mounted::new(self.directories)),
        });
    }

    fn now(&mut self) -> &mut dyn Subject {
        self.now.as_deref_mut().unwrap()
    }
}

impl Subject for Relay<'_> {
    fn apply(&mut self, operation: &Operation) -> Result<(), Errno> {
        if !matches!(operation, Operation::Reopen) {
            return self.now().apply(operation);
        }
        self.turn = match self.turn {
            Turn::Engine => Turn::Kernel,
            Turn::Kernel => Turn::Engine,
        };
        self.open();
        Ok(())
    }

    fn observe(&mut self) -> Seen {
        self.now().observe()
    }

    fn keeps_number(&self, _content: &Content, operation: &Operation) -> bool {
        self.have_same_numbers || !matches!(operation, Operation::Reopen)
    }

    fn has_vfs(&self) -> bool {
        self.turn == Turn::Kernel
    }
}
