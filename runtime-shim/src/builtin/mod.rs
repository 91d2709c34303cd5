//! The image `hello`, which the program carries with it: so that the first
//! command needs no network and no file.
//!
//! Its one file is a static program that is assembled here, instruction by
//! instruction ([`program`]): ten instructions need neither a compiler nor a
//! linker on the machine that builds or runs `runion`, and everybody can read
//! what is in the image. The same `runion` makes the same image on every
//! machine of an architecture.

mod program;

use std::collections::BTreeMap;

use layerstore::document::{Execution, History, ImageConfig, Platform};
use layerstore::layer::entry::{Entry, EntryKind};
use layerstore::layer::write::TarWriter;
use layerstore::reference::Reference;
use layerstore::store::Store;
use layerstore::tree::Meta;
use layerstore::{Error, Result};

use program::Architecture;

/// What the image is called.
pub const NAME: &str = "hello:latest";

const GREETING: &str = "\
Hello from runion!

This program is all there is in the image \"hello\": one static file that knows
two system calls. It came with runion itself, so nothing was downloaded.

  runion load -i FILE        takes in what docker or podman saved
  runion images --tree       shows what images share
  runion --help              tells the rest
";

/// When the image was made: fixed, so that it is the same everywhere.
const CREATED: &str = "2026-01-01T00:00:00Z";
const CREATED_SECONDS: i64 = 1_767_225_600;

/// Whether a user means this image, should the store have none by that name.
pub fn is_meant(text: &str) -> bool {
    Reference::parse(text).is_ok_and(|meant| Reference::parse(NAME).is_ok_and(|name| meant == name))
}

/// Puts the image into the store, under its name.
///
/// # Errors
/// [`layerstore::error::Kind::NotFound`] on an architecture it is not made for.
pub fn take_in(store: &Store) -> Result<()> {
    let host = Platform::host();
    let architecture = Architecture::named(&host.architecture).ok_or_else(|| {
        let message = format!("the built-in image hello is not made for {}", host.architecture);
        Error::new(layerstore::error::Kind::NotFound, message)
    })?;
    let tar = archive(&program::assemble(architecture, GREETING.as_bytes()))?;
    let adding = store.adding()?;
    let layer = store.add_layer(&adding, None, &tar[..])?;
    let mut config = ImageConfig {
        created: Some(CREATED.to_owned()),
        architecture: host.architecture.clone(),
        variant: Some(host.variant.clone()).filter(|variant| !variant.is_empty()),
        os: host.os.clone(),
        config: Execution {
            env: vec!["PATH=/".to_owned()],
            cmd: vec!["/hello".to_owned()],
            working_dir: "/".to_owned(),
            ..Execution::default()
        },
        history: vec![step("ADD hello /", false), step("CMD [\"/hello\"]", true)],
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids = vec![layer.diff_id];
    let image = store.add_image(&adding, &config.to_bytes()?, None)?;
    store.tag(image.id, &Reference::parse(NAME)?).map(drop)
}

fn step(command: &str, empty_layer: bool) -> History {
    History {
        created: Some(CREATED.to_owned()),
        created_by: Some(command.to_owned()),
        comment: Some("built into runion".to_owned()),
        empty_layer,
        ..History::default()
    }
}

fn archive(program: &[u8]) -> Result<Vec<u8>> {
    let mut tar = TarWriter::new(Vec::new());
    let entry = Entry {
        path: b"hello".to_vec(),
        kind: EntryKind::File,
        meta: Meta { mode: 0o755, mtime: CREATED_SECONDS, ..Meta::default() },
        xattrs: BTreeMap::new(),
        size: program.len() as u64,
        stored: program.len() as u64,
        sparse: None,
    };
    tar.entry(&entry, program)?;
    tar.finish()
}
