//! `runion df`.

use std::collections::HashMap;

use clap::Args;
use layerstore::digest::Digest;
use layerstore::store::{Store, Usage, short};
use serde_json::{Value, json};

use super::filter::Known;
use crate::failure::Result;
use crate::output::{self, Format, size, time};

/// Show where the store's bytes are, and what prune would give back
///
/// Images: all their layers' files, as if nothing were shared. Layers: the same
/// with each layer once. Files: what lies on disk, with each content once.
/// Metadata: indexes, framings and documents. SHARED is what more than one
/// image, layer or file's layer has; UNIQUE what only one has. RECLAIMABLE is
/// what `runion prune` removes: images without a name, and what no image needs.
#[derive(Args)]
#[command(after_help = "Fields of --format: .Type .TotalCount .Size .Shared .Unique .Reclaimable")]
pub struct Df {
    /// Print by a template: table, json, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT", conflicts_with = "verbose")]
    format: Option<String>,

    /// Each image and each layer
    #[arg(long, short)]
    verbose: bool,
}

const COLUMNS: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Size}}\t{{.Shared}}\t{{.Unique}}\t{{.Reclaimable}}";
const HEADERS: [(&str, &str); 6] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Size", "SIZE"),
    ("Shared", "SHARED"),
    ("Unique", "UNIQUE"),
    ("Reclaimable", "RECLAIMABLE"),
];

impl Df {
    /// Prints the table, or the tables.
    pub fn run(self, store: &Store) -> Result<u8> {
        let format = Format::parse(self.format.as_deref(), COLUMNS)?;
        let usage = store.usage()?;
        let images: HashMap<Digest, Known> =
            Known::all(store)?.into_iter().map(|known| (known.image.id(), known)).collect();
        if self.verbose {
            return verbose(&usage, &images);
        }
        format.print(&HEADERS, &rows(&usage, &images))?;
        Ok(0)
    }
}

fn rows(usage: &Usage, images: &HashMap<Digest, Known>) -> Vec<Value> {
    let is_dangling = |id: &Digest| images.get(id).is_some_and(|known| known.image.names.is_empty());
    let dangling: u64 =
        usage.images.iter().filter(|image| is_dangling(&image.id)).map(|image| image.unique).sum();
    let (objects, shared) = (usage.objects, usage.shared_objects);
    let row = |kind: &str, count: u64, sizes: [u64; 4]| {
        let [size, shared, unique, reclaimable] = sizes.map(size::human);
        json!({
            "Type": kind, "TotalCount": count.to_string(), "Size": size, "Shared": shared, "Unique": unique,
            "Reclaimable": reclaimable,
        })
    };
    let of_images = usage.images.iter();
    let sums = |value: fn(&layerstore::store::ImageUsage) -> u64| of_images.clone().map(value).sum::<u64>();
    let layer_sums =
        |value: fn(&layerstore::store::LayerUsage) -> u64| usage.layers.iter().map(value).sum::<u64>();
    vec![
        row(
            "Images",
            usage.images.len() as u64,
            [sums(|image| image.contents), sums(|image| image.shared), sums(|image| image.unique), dangling],
        ),
        row(
            "Layers",
            usage.layers.len() as u64,
            [
                layer_sums(|layer| layer.contents),
                layer_sums(|layer| layer.shared),
                layer_sums(|layer| layer.unique),
                0,
            ],
        ),
        row("Files", objects.count, [objects.bytes, shared.bytes, objects.bytes - shared.bytes, 0]),
        row("Metadata", usage.metadata.count, [usage.metadata.bytes, 0, usage.metadata.bytes, 0]),
        row("Garbage", usage.garbage.count, [usage.garbage.bytes, 0, 0, usage.garbage.bytes]),
    ]
}

fn verbose(usage: &Usage, known: &HashMap<Digest, Known>) -> Result<u8> {
    let now = time::now();
    let mut lines = vec!["REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE".to_owned()];
    let mut by_age: Vec<_> =
        usage.images.iter().filter_map(|image| Some((image, known.get(&image.id)?))).collect();
    by_age.sort_by_key(|(image, known)| (std::cmp::Reverse(known.age()), image.id));
    for (image, known) in by_age {
        let rest = format!(
            "{}\t{}\t{}\t{}\t{}",
            short(&image.id),
            time::ago(known.created, now),
            size::human(image.contents),
            size::human(image.shared),
            size::human(image.unique),
        );
        for name in &known.image.names {
            lines.push(format!("{}\t{}\t{rest}", name.repository(), name.tag().unwrap_or("<none>")));
        }
        if known.image.names.is_empty() {
            lines.push(format!("<none>\t<none>\t{rest}"));
        }
    }
    let mut text = format!("Images space usage:\n\n{}", output::table::aligned(&lines));
    let mut lines = vec!["LAYER\tIMAGES\tSIZE\tSHARED SIZE\tUNIQUE SIZE".to_owned()];
    let mut layers: Vec<_> = usage.layers.iter().collect();
    layers.sort_by_key(|layer| (std::cmp::Reverse(layer.unique), layer.diff_id));
    lines.extend(layers.iter().map(|layer| {
        format!(
            "{}\t{}\t{}\t{}\t{}",
            short(&layer.diff_id),
            layer.images,
            size::human(layer.contents),
            size::human(layer.shared),
            size::human(layer.unique),
        )
    }));
    text.push_str(&format!("\nLayers space usage:\n\n{}", output::table::aligned(&lines)));
    let (objects, shared, garbage) = (usage.objects, usage.shared_objects, usage.garbage);
    text.push_str(&format!(
        "\nFiles: {} contents, {}; of these {} in several layers, {}. Metadata: {}. Garbage: {}.\n",
        objects.count,
        size::human_sum(objects.bytes),
        shared.count,
        size::human_sum(shared.bytes),
        size::human_sum(usage.metadata.bytes),
        size::human_sum(garbage.bytes),
    ));
    output::print(&text)?;
    Ok(0)
}
