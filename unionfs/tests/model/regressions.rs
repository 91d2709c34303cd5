//! Sequences that once went wrong, each under what was wrong. On both caches of
//! the engine and every form of whiteouts, and handed on to kernel overlayfs.

use crate::compare::{self, Inodes};
use crate::engine::{Cache, Engine};
use crate::layers::{Form, Layer, Opaque, Put, Whiteouts};
use crate::reference::{Replace, Slot};
use crate::relay::{Relay, Turn};
use crate::steps::Operation;
use crate::{Directories, Subject, kernel};

fn check(layers: &[Layer], operations: &[Operation]) {
    for cache in [Cache::Keeps, Cache::Forgets] {
        for whiteouts in [Whiteouts::Devices, Whiteouts::Attributes, Whiteouts::Names] {
            let (directories, tree) = Directories::make_as(layers, Form { whiteouts, ..Form::default() });
            run(&mut Engine::new(&directories, cache), tree, operations);
        }
    }
    match kernel::Mounted::is_possible() {
        Ok(()) => {
            let (directories, tree) = Directories::make(layers);
            run(&mut Relay::new(&directories, Turn::Engine, Form::default()), tree, operations);
        }
        Err(reason) => println!("skipped: {reason}"),
    }
}

fn run(subject: &mut dyn Subject, mut tree: crate::reference::Tree, operations: &[Operation]) {
    let mut inodes = Inodes::default();
    for operation in operations.iter().chain([&Operation::Reopen]) {
        operation.on_reference(&mut tree).unwrap();
        subject.apply(operation).unwrap();
        compare::same(&tree, &subject.observe(), &mut inodes, &format!("after {operation:?}")).unwrap();
    }
}

fn slot(path: &str) -> Slot {
    let mut names: Vec<String> = path.split('/').map(Into::into).collect();
    let name = names.pop().unwrap();
    Slot { dir: names, name }
}

fn file() -> Put {
    Put::File { data: b"data".to_vec(), mode: 0o600 }
}

#[test]
fn the_names_of_a_metacopy_share_its_redirect() {
    // /b is also /c/a.
    let layers = [vec![(vec![1], file()), (vec![2, 0], Put::HardLink(0))]];
    check(
        &layers,
        &[
            Operation::Chmod { file: slot("b"), mode: 0o644 },
            Operation::Rename { from: slot("c/a"), to: slot("c/c"), replace: Replace::Allowed },
        ],
    );
}

#[test]
fn a_redirect_through_an_opaque_directory_ends_there() {
    // The upper layer's /b hides the lower one's, also from a redirect to /b/c.
    let opaque = Put::Dir { mode: 0o755, opaque: Opaque::Yes };
    let layers = [vec![(vec![1], opaque), (vec![1, 2, 0], file())], vec![(vec![1, 2, 1], file())]];
    check(&layers, &[Operation::Rename { from: slot("b/c"), to: slot("d"), replace: Replace::Allowed }]);
}

#[test]
fn a_redirect_ends_at_a_whiteout_on_its_way() {
    // The middle layer's whiteout of /c hides the bottom's, also from a redirect.
    let dir = || Put::Dir { mode: 0o755, opaque: Opaque::No };
    let layers = [vec![(vec![2], dir())], vec![(vec![2], Put::Whiteout)], vec![(vec![2, 1], dir())]];
    check(&layers, &[Operation::Rename { from: slot("c"), to: slot("a"), replace: Replace::Allowed }]);
}
