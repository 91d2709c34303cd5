//! How long what users do often takes; prints figures:
//! `cargo test --release -p layerstore --test store speed -- --ignored --nocapture`.

use std::time::Instant;

use layerstore::digest::Digest;
use layerstore::reference::Reference;
use layerstore::store::{Repair, Store};

use crate::made::{Made, layer};
use crate::state::Scratch;

const TIMES: usize = 5;

/// The shortest of a few times, in milliseconds.
fn fastest(what: &str, mut action: impl FnMut()) {
    let times = (0..TIMES).map(|_| {
        let begin = Instant::now();
        action();
        begin.elapsed()
    });
    println!("{what}: {:.1} ms", times.min().unwrap().as_secs_f64() * 1e3);
}

fn once(what: &str, action: impl FnOnce()) {
    let begin = Instant::now();
    action();
    println!("{what}: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
}

fn add(store: &Store, made: &Made) -> Digest {
    let adding = store.adding().unwrap();
    for layer in &made.layers {
        store.add_layer(&adding, None, &layer[..]).unwrap();
    }
    store.add_image(&adding, &made.config, None).unwrap().id
}

#[test]
#[ignore = "a measurement"]
fn a_thousand_images() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let base = layer(&[("base", 5000)]);
    once("1,000 images added and named", || {
        for number in 0..1000 {
            let above = layer(&[("number", 600 + number)]);
            let id = add(&store, &Made::new(&format!("{number}"), &[base.clone(), above]));
            store.tag(id, &Reference::parse(&format!("image-{number}")).unwrap()).unwrap();
        }
    });
    fastest("images() of 1,000", || assert_eq!(store.images().unwrap().len(), 1000));
    fastest("find() by name", || drop(store.find("image-500").unwrap()));
    let id = store.find("image-500").unwrap().id();
    fastest("find() by the beginning of an id", || drop(store.find(&id.hex()[..12]).unwrap()));
    fastest("collect() of nothing", || drop(store.collect().unwrap()));
    fastest("tag()", || assert!(store.tag(id, &Reference::parse("new").unwrap()).is_ok()));
    once("remove_image()", || store.remove_image(id).unwrap());
    once("collect() of an image", || assert_eq!(store.collect().unwrap().layers.len(), 1));
    fastest("fsck()", || assert!(store.fsck(Repair::No).unwrap().is_empty()));
}

#[test]
#[ignore = "a measurement"]
fn twenty_thousand_objects() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let names: Vec<String> = (0..20_000).map(|number| format!("{number}-of-many")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1000)).collect();
    let small = add(&store, &Made::new("small", &[layer(&[("small", 700)])]));
    let large = add(&store, &Made::new("large", &[layer(&files)]));
    fastest("collect() of nothing, 20,000 objects", || assert_eq!(store.collect().unwrap().objects, 0));
    fastest("fsck() of 20,000 objects", || assert!(store.fsck(Repair::No).unwrap().is_empty()));
    store.remove_image(large).unwrap();
    once("collect() of 20,000 objects", || assert_eq!(store.collect().unwrap().objects, 20_000));
    store.find(&small.to_string()).unwrap();
}
