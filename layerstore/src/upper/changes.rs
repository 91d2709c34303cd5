//! The differences in `docker diff`'s words.

use std::collections::BTreeMap;

use super::Upper;
use super::walk::{Found, Step, walk};
use crate::error::Result;
use crate::tree::{NodeId, Tree, joined};

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// From the root, with a slash at its beginning.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is different; a directory also where something in it is.
    Changed,
    /// It is no longer there.
    Deleted,
}

impl ChangeKind {
    /// The letter `docker diff` prints.
    pub fn letter(self) -> char {
        match self {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        }
    }
}

/// What an upper changed about an image's tree, by path.
///
/// # Errors
/// What reading the upper gave.
pub fn changes(upper: &Upper, tree: &Tree) -> Result<Vec<Change>> {
    let mut found = Changes::default();
    walk(upper, tree, |step| {
        match step {
            Step::Gone { path } => found.gone(path),
            Step::Dir { path: b"", .. } => {}
            Step::Dir { path, is, was, hides } => {
                if was.is_none_or(|was| is_different(upper, tree, is, was)) {
                    found.there(path, was);
                }
                for (name, _) in was.filter(|_| hides).into_iter().flat_map(|was| tree.entries(was)) {
                    found.gone(&joined(path, name));
                }
            }
            Step::File { path, was, .. } | Step::Link { path, was, .. } => found.there(path, was),
            Step::Moved { path, from } => {
                let mut todo = vec![(path.to_vec(), from)];
                while let Some((path, node)) = todo.pop() {
                    found.there(&path, None);
                    todo.extend(tree.entries(node).map(|(name, child)| (joined(&path, name), child)));
                }
            }
        }
        Ok(())
    })?;
    let slashed = |path: Vec<u8>| [b"/", &path[..]].concat();
    Ok(found.0.into_iter().map(|(path, kind)| Change { path: slashed(path), kind }).collect())
}

/// What was found so far, by path.
#[derive(Default)]
struct Changes(BTreeMap<Vec<u8>, ChangeKind>);

impl Changes {
    fn there(&mut self, path: &[u8], was: Option<NodeId>) {
        let before = self.0.get(path);
        // What was hidden with its directory is there again.
        let is_new = was.is_none() && before.is_none_or(|kind| *kind == ChangeKind::Added);
        self.note(path, if is_new { ChangeKind::Added } else { ChangeKind::Changed });
    }

    fn gone(&mut self, path: &[u8]) {
        self.note(path, ChangeKind::Deleted);
    }

    /// And the directories it is in, as far as they were not made with it.
    fn note(&mut self, mut path: &[u8], kind: ChangeKind) {
        self.0.insert(path.to_vec(), kind);
        while let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
            path = path.get(..slash).unwrap_or_default();
            self.0.entry(path.to_vec()).or_insert(ChangeKind::Changed);
        }
    }
}

/// Whether a directory's own metadata changed: it may have been copied up for
/// something in it.
fn is_different(upper: &Upper, tree: &Tree, is: Found<'_>, was: NodeId) -> bool {
    let Some(node) = tree.get(was).filter(|_| tree.is_dir(was)) else { return true };
    let (now, before) = (is.meta(), node.meta);
    let same = (now.mode, now.uid, now.gid) == (before.mode, before.uid, before.gid);
    !same || is.xattrs(upper).is_ok_and(|xattrs| xattrs != node.xattrs)
}
