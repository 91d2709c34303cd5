//! References to images: what is one is written as one, and means the same.

#![no_main]

use layerstore::reference::{IdPrefix, Reference, Repository, parse_registry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        for written in [reference.to_string(), reference.canonical()] {
            assert_eq!(Reference::parse(&written).ok().as_ref(), Some(&reference), "{written:?}");
        }
        let repository = reference.repository().canonical();
        assert_eq!(Repository::parse(&repository).ok().as_ref(), Some(reference.repository()));
        assert!(!reference.repository().path().split('/').any(|part| matches!(part, "" | "." | "..")));
    }
    drop((Repository::parse(text), parse_registry(text), IdPrefix::parse(text)));
});
