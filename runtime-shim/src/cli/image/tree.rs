//! Which images share which layers: a tree of stacks of layers, the bottom
//! first; where an image's stack ends, its names stand.

use layerstore::digest::Digest;
use layerstore::store::{Store, short};

use super::Ids;
use super::filter::Known;
use super::find::Layers;
use crate::failure::Result;
use crate::output::{self, size, table};

/// A layer over those that lead to it.
struct Node {
    layer: Digest,
    bytes: u64,
    /// How many images have it here.
    images: usize,
    /// Those whose topmost layer it is.
    names: Vec<String>,
    above: Vec<Node>,
}

/// Prints the tree of these images.
pub fn print(store: &Store, mut images: Vec<Known>, ids: Ids) -> Result<u8> {
    images.sort_by_key(|known| (known.image.names.first().cloned(), known.image.id()));
    let mut roots = Vec::new();
    let (mut layers, mut without) = (Layers::default(), Vec::new());
    let each: u64 = images.iter().map(|known| layers.size(store, &known.image)).sum::<Result<u64>>()?;
    for known in &images {
        let mut names: Vec<String> = known.image.names.iter().map(ToString::to_string).collect();
        if names.is_empty() {
            names.push(format!("<none> ({})", short(&known.image.id())));
        }
        if known.image.record.layers.is_empty() {
            without.extend(names);
            continue;
        }
        let mut level = &mut roots;
        let mut left = known.image.record.layers.iter().peekable();
        while let Some(layer) = left.next() {
            let bytes = layers.get(store, *layer)?.map_or(0, |layer| layer.contents);
            let at = match level.iter().position(|node: &Node| node.layer == *layer) {
                Some(at) => at,
                None => {
                    level.push(Node {
                        layer: *layer,
                        bytes,
                        images: 0,
                        names: Vec::new(),
                        above: Vec::new(),
                    });
                    level.len() - 1
                }
            };
            let Some(node) = level.get_mut(at) else { break };
            node.images += 1;
            if left.peek().is_none() {
                node.names.append(&mut names);
            }
            level = &mut node.above;
        }
    }
    let mut lines = vec!["LAYER\tSIZE\tIMAGES\tNAMES".to_owned()];
    draw(roots, ids, &mut lines);
    lines.extend(without.into_iter().map(|name| format!("<no layers>\t0B\t1\t{name}")));
    let mut text = table::aligned(&lines);
    let once = once(store, &images, &mut layers)?;
    let saved = ((each - once) * 100).checked_div(each).unwrap_or(0);
    text.push_str(&format!(
        "\nWith every image by itself: {}. Each layer once: {} ({saved}% less). What files are shared: runion df\n",
        size::human_sum(each),
        size::human_sum(once),
    ));
    output::print(&text)?;
    Ok(0)
}

/// The bytes of every layer, each once.
fn once(store: &Store, images: &[Known], layers: &mut Layers) -> Result<u64> {
    let distinct: std::collections::HashSet<Digest> =
        images.iter().flat_map(|known| known.image.record.layers.iter().copied()).collect();
    let mut bytes = 0;
    for layer in distinct {
        bytes += layers.get(store, layer)?.map_or(0, |layer| layer.contents);
    }
    Ok(bytes)
}

/// Stacks that are higher are drawn without going further to the right.
const DEEPEST: usize = 40;

/// One line a layer. Stacks may be deep: what is left to draw is a list.
fn draw(roots: Vec<Node>, ids: Ids, lines: &mut Vec<String>) {
    let mut left: Vec<(Node, String, String)> = Vec::new();
    let push = |nodes: Vec<Node>, indent: &str, is_root: bool, left: &mut Vec<(Node, String, String)>| {
        let last = nodes.len().saturating_sub(1);
        for (at, node) in nodes.into_iter().enumerate().rev() {
            let is_deep = indent.chars().count() >= 3 * DEEPEST;
            let (branch, below) = match (is_root || is_deep, at == last) {
                (true, _) => ("", ""),
                (false, true) => ("└─ ", "   "),
                (false, false) => ("├─ ", "│  "),
            };
            left.push((node, format!("{indent}{branch}"), format!("{indent}{below}")));
        }
    };
    push(roots, "", true, &mut left);
    while let Some((node, prefix, indent)) = left.pop() {
        let layer = ids.show(&node.layer);
        let (bytes, images, names) = (size::human(node.bytes), node.images, node.names.join(", "));
        lines.push(format!("{prefix}{layer}\t{bytes}\t{images}\t{names}"));
        push(node.above, &indent, false, &mut left);
    }
}
