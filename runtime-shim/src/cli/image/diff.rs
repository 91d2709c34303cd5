//! `runion diff`.

use std::collections::HashMap;

use clap::Args;
use layerstore::store::Store;
use layerstore::tree::{Content, Node, NodeId, ROOT, Tree};

use super::find;
use crate::cli::container;
use crate::container::Containers;
use crate::failure::{Failure, Result};
use crate::output;

/// Show what a container changed about its image, or one image about another: A for added, C for
/// changed, D for deleted
///
/// Of a container what it wrote is looked at, and no more. Both images' files
/// are compared, all layers merged; contents by their digests, so none is read.
/// A directory is changed if something in it is.
#[derive(Args)]
pub struct Diff {
    /// A container, or the image before
    #[arg(value_name = "CONTAINER|IMAGE")]
    before: String,

    /// The image after
    #[arg(value_name = "IMAGE")]
    after: Option<String>,
}

impl Diff {
    /// Prints the changes.
    pub fn run(self, store: &Store) -> Result<u8> {
        let Some(after) = &self.after else {
            let container = Containers::open(store.root())?.present(&self.before)?;
            if container.is_none() && find::present(store, &self.before).is_ok_and(|image| image.is_some()) {
                return Err(Failure::as_docker(format!("No such container: {}", self.before))
                    .hint(format!("an image is compared with another: runion diff {} IMAGE", self.before)));
            }
            return container::changes::print(store, &self.before);
        };
        let (before, after) = (find::image(store, &self.before)?, find::image(store, after)?);
        let _held = (store.hold(before.id())?, store.hold(after.id())?);
        let (before, after) = (store.tree(&before.record.layers)?, store.tree(&after.record.layers)?);
        let mut text = Vec::new();
        for (letter, path) in changes(&before, &after) {
            text.extend([letter, b' ']);
            text.extend(path);
            text.push(b'\n');
        }
        output::print_bytes(&text)?;
        Ok(0)
    }
}

/// Every changed path with its letter, a directory before what is in it. What is
/// in a directory that is gone is not listed, as docker does not.
fn changes(before: &Tree, after: &Tree) -> Vec<(u8, Vec<u8>)> {
    let (before_links, after_links) = (links(before), links(after));
    let mut compare = Compare { before, after, before_links, after_links, found: Vec::new() };
    compare.walk();
    compare.found
}

/// How many names each node has.
fn links(tree: &Tree) -> HashMap<NodeId, u32> {
    let mut links = HashMap::new();
    for id in 0..tree.nodes.len() as NodeId {
        for (_, child) in tree.entries(id) {
            *links.entry(child).or_insert(0) += 1;
        }
    }
    links
}

fn node(tree: &Tree, id: Option<NodeId>) -> Option<&Node> {
    tree.get(id?)
}

struct Compare<'t> {
    before: &'t Tree,
    after: &'t Tree,
    before_links: HashMap<NodeId, u32>,
    after_links: HashMap<NodeId, u32>,
    found: Vec<(u8, Vec<u8>)>,
}

/// A directory of both images that is gone through.
struct Level {
    path: Vec<u8>,
    /// Whether it has its own line already.
    is_listed: bool,
    names: std::vec::IntoIter<(Vec<u8>, Option<NodeId>, Option<NodeId>)>,
}

impl Compare<'_> {
    fn walk(&mut self) {
        let mut open = vec![self.level(Vec::new(), Some(ROOT), Some(ROOT), true)];
        // The root's own attributes are nobody's path; docker leaves it out.
        while let Some(level) = open.last_mut() {
            let Some((name, before, after)) = level.names.next() else {
                open.pop();
                continue;
            };
            let path = [&level.path[..], b"/", &name].concat();
            let (before_node, after_node) = (node(self.before, before), node(self.after, after));
            let letter = match (before_node, after_node) {
                (None, None) => continue,
                (Some(_), None) => Some(b'D'),
                (None, Some(_)) => Some(b'A'),
                (Some(one), Some(other)) => (!self.same(one, other, before, after)).then_some(b'C'),
            };
            let is_dir =
                |node: Option<&Node>| matches!(node.map(|node| &node.content), Some(Content::Dir(_)));
            let goes_in = is_dir(after_node);
            let into_before = before.filter(|_| is_dir(before_node));
            if letter.is_some() {
                self.list_parents(&mut open);
            }
            self.found.extend(letter.map(|letter| (letter, path.clone())));
            if goes_in {
                open.push(self.level(path, into_before, after, letter.is_some()));
            }
        }
    }

    /// A directory is changed by what is in it: each on the way down gets its
    /// line, where it belongs.
    fn list_parents(&mut self, open: &mut [Level]) {
        for level in open.iter_mut().filter(|level| !level.is_listed) {
            level.is_listed = true;
            self.found.push((b'C', level.path.clone()));
        }
    }

    /// The names of both, in order.
    fn level(&self, path: Vec<u8>, before: Option<NodeId>, after: Option<NodeId>, is_listed: bool) -> Level {
        let mut names = std::collections::BTreeMap::<Vec<u8>, (Option<NodeId>, Option<NodeId>)>::new();
        for (name, id) in before.iter().flat_map(|id| self.before.entries(*id)) {
            names.entry(name.to_vec()).or_default().0 = Some(id);
        }
        for (name, id) in after.iter().flat_map(|id| self.after.entries(*id)) {
            names.entry(name.to_vec()).or_default().1 = Some(id);
        }
        let names: Vec<_> = names.into_iter().map(|(name, (before, after))| (name, before, after)).collect();
        Level { path, is_listed, names: names.into_iter() }
    }

    /// Directories by their attributes alone: what is in them is compared by
    /// itself.
    fn same(&self, one: &Node, other: &Node, before: Option<NodeId>, after: Option<NodeId>) -> bool {
        let contents = match (&one.content, &other.content) {
            (Content::Dir(_), Content::Dir(_)) => true,
            (one, other) => one == other,
        };
        let links =
            |links: &HashMap<NodeId, u32>, id: Option<NodeId>| id.and_then(|id| links.get(&id)).copied();
        contents
            && one.meta == other.meta
            && one.xattrs == other.xattrs
            && links(&self.before_links, before) == links(&self.after_links, after)
    }
}
