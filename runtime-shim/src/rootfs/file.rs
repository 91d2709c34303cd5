//! One file of an image, without a mount.
//!
//! What is read tells how many ids a container gets, and no more: nobody runs it
//! or is who it says. It is compared with no digest; the container's own root is,
//! where that is asked for.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use layerstore::store::{Image, Store};
use unionfs::image::{Contents, Index, Kind};

use crate::failure::{Context, Result};

/// So much of it is read.
const MOST: u64 = 1 << 20;

/// What a regular file of an image consists of; nothing where there is none. No
/// link is followed.
pub fn read(store: &Store, image: &Image, path: &str) -> Result<Vec<u8>> {
    let context = || format!("cannot read /{path} of the image");
    let file = File::open(store.index_file(&image.record)).context(context)?;
    let index = Index::open(&file).context(context)?;
    let mut nid = index.root();
    for name in path.split('/') {
        let is_dir = index.attr(nid).context(context)?.kind == Kind::Dir;
        let found = if is_dir { index.lookup(nid, name.as_bytes()).context(context)? } else { None };
        let Some(found) = found else { return Ok(Vec::new()) };
        nid = found;
    }
    if index.attr(nid).context(context)?.kind != Kind::File {
        return Ok(Vec::new());
    }
    match index.contents(nid).context(context)? {
        Contents::Inline(data) => Ok(data.pieces().concat()),
        Contents::Hole { .. } => Ok(Vec::new()),
        Contents::Object { path, .. } => {
            let object = store.objects().join(Path::new(std::ffi::OsStr::from_bytes(path)));
            let mut bytes = Vec::new();
            File::open(&object).context(context)?.take(MOST).read_to_end(&mut bytes).context(context)?;
            Ok(bytes)
        }
    }
}
