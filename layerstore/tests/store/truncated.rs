//! Archives that end early.

use crate::made::{Part, docker, gzip, image, oci, pack};
use crate::state::{Scratch, assert_clean, assert_no_garbage, files_of, load, load_from_file, state};

const CUTS: usize = 40;

#[test]
fn wherever_an_archive_ends() {
    for parts in [docker(&[(&image(), &["name:1"])]), oci(&[(&image(), "name:1")])] {
        let archive = pack(&parts);
        // What fills its last block up and the two blocks of zeros that end it may
        // be cut off: that takes nothing away.
        let Some((_, Part::File(last))) = parts.last() else { panic!("{parts:?}") };
        let whole = archive.len() - 1024 - (last.len().next_multiple_of(512) - last.len());
        let scratch = Scratch::new();
        let store = scratch.store();
        for cut in (0..CUTS).map(|part| whole * part / CUTS + part % 3 * 170).chain([whole - 1]) {
            for from_file in [false, true] {
                let piece = &archive[..cut];
                let loaded = match from_file {
                    false => load(&store, piece),
                    true => load_from_file(&scratch, &store, piece),
                };
                let Err(error) = loaded else { panic!("{cut} of {whole} bytes were loaded") };
                assert_ne!(error.kind(), layerstore::error::Kind::System, "{cut} of {whole}: {error}");
                assert!(state(&store).is_empty(), "{cut} of {whole}");
                let left = || files_of(&scratch.join("store"));
                // A child that another test has just forked holds our locks until it
                // executes a program; a load leaves it to the next then.
                if left().len() != 3 {
                    load(&store, piece).unwrap_err();
                }
                let left = left();
                assert_eq!(left.len(), 3, "{cut} of {whole}: what a failed load made goes at once: {left:?}");
                assert_clean(&store);
                assert_no_garbage(&store);
            }
        }
        load(&store, &archive[..whole]).unwrap();
        assert_clean(&store);
    }
}

#[test]
fn wherever_a_compressed_archive_ends() {
    let archive = pack(&docker(&[(&image(), &["name:1"])]));
    for compressed in [gzip(&archive), zstd::encode_all(&archive[..], 1).unwrap()] {
        let scratch = Scratch::new();
        let store = scratch.store();
        for cut in (0..CUTS).map(|part| compressed.len() * part / CUTS) {
            if let Err(error) = load(&store, &compressed[..cut]) {
                assert_ne!(error.kind(), layerstore::error::Kind::System, "{cut}: {error}");
                assert!(state(&store).is_empty(), "{cut}");
            }
            assert_clean(&store);
            assert_no_garbage(&store);
        }
        assert!(state(&store).is_empty());
        load(&store, &compressed).unwrap();
        assert_eq!(state(&store).len(), 1);
    }
}
