//! `unionfs/SEMANTICS.md`, number by number: each test bears the number of the
//! paragraph it proves, and does the same to kernel overlayfs where the kernel
//! has the behaviour.

mod attributes;
mod beyond;
mod data;
mod directories;
mod durability;
mod files;
mod layers;
mod less;
mod locks;
mod names;
mod nesting;
mod numbers;
mod open;
mod passed;
mod privilege;
mod scene;
mod security;
mod verity;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The numbers of the paragraphs: `**12. A sentence.** …`.
fn promised(text: &str) -> Vec<u32> {
    let number = |line: &str| line.strip_prefix("**")?.split_once(". ")?.0.parse().ok();
    text.lines().filter_map(number).collect()
}

/// How many tests each number has: `fn s12_what`.
fn tested(dir: &Path, found: &mut BTreeMap<u32, u32>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tested(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for line in fs::read_to_string(&path).unwrap().lines() {
                let name = line.trim_start().strip_prefix("fn s");
                let number = name.and_then(|name| name.split_once('_')?.0.parse().ok());
                number.into_iter().for_each(|number| *found.entry(number).or_default() += 1);
            }
        }
    }
}

#[test]
fn every_number_has_its_test_and_every_test_its_number() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(tests.join("../unionfs/SEMANTICS.md")).unwrap();
    let promised = promised(&text);
    let last = u32::try_from(promised.len()).unwrap();
    assert!(last > 90, "only {last} paragraphs were found");
    assert_eq!(promised, (1..=last).collect::<Vec<_>>(), "the numbers go up by one");
    let mut found = BTreeMap::new();
    tested(tests, &mut found);
    let untested: Vec<_> = promised.iter().filter(|number| !found.contains_key(number)).collect();
    let unknown: Vec<_> = found.keys().filter(|number| !promised.contains(number)).collect();
    assert!(
        untested.is_empty() && unknown.is_empty(),
        "without a test: {untested:?}; without a paragraph: {unknown:?}"
    );
}
