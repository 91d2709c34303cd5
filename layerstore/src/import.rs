//! A root file system's archive as an image of one layer.
//!
//! The archive is read once: its digest, and with it the image's id, are known
//! at its end. What lies there becomes the layer's tar stream bit for bit,
//! decompressed.

use std::io::{BufRead, BufReader, Read};

use crate::compression::decompress;
use crate::document::{Execution, History, ImageConfig, Platform};
use crate::error::{Context, Error, Kind, Result};
use crate::store::{Adding, ImageRecord, Store};

/// What the archive does not say of the image.
#[derive(Clone, Debug)]
pub struct Importing {
    /// What it runs on.
    pub platform: Platform,
    /// How it runs.
    pub config: Execution,
    /// When it was made, in the words of RFC 3339.
    pub created: String,
    /// Why, or where it is from.
    pub comment: String,
}

/// Takes an archive in, compressed or not, as an image without a name.
///
/// # Errors
/// [`Kind::Invalid`] for what is no archive; what adding the layer gave.
pub fn import(store: &Store, archive: impl Read, how: &Importing) -> Result<ImageRecord> {
    let reading = || "import an archive";
    let mut archive = BufReader::new(archive);
    if archive.fill_buf().context(reading)?.is_empty() {
        return Err(Error::new(Kind::Invalid, "there is nothing in the archive"));
    }
    store.add_whole(|adding| add(store, adding, archive, how)).context(reading)
}

fn add(store: &Store, adding: &Adding, archive: impl Read, how: &Importing) -> Result<ImageRecord> {
    let layer = store.add_layer(adding, None, decompress(archive)?)?;
    let history = History {
        created: Some(how.created.clone()),
        comment: Some(how.comment.clone()),
        ..History::default()
    };
    let mut config = ImageConfig {
        created: Some(how.created.clone()),
        architecture: how.platform.architecture.clone(),
        variant: Some(how.platform.variant.clone()).filter(|variant| !variant.is_empty()),
        os: how.platform.os.clone(),
        config: how.config.clone(),
        history: vec![history],
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids = vec![layer.diff_id];
    store.add_image(adding, &config.to_bytes()?, None)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::scratch::Scratch;

    fn how() -> Importing {
        Importing {
            platform: "linux/arm/v7".parse().unwrap(),
            config: Execution { cmd: vec!["/bin/sh".into()], ..Execution::default() },
            created: "2024-05-06T07:08:09Z".into(),
            comment: "from a test".into(),
        }
    }

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        builder.append_data(&mut header, "etc/hostname", &b"host\n"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_archive_becomes_an_image_of_one_layer() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path()).unwrap();
        let record = import(&store, &archive()[..], &how()).unwrap();
        assert_eq!(record.layers, [crate::digest::Digest::of(&archive())]);
        let config = store.config(&record).unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm/v7");
        assert_eq!(config.config.cmd, ["/bin/sh"]);
        assert_eq!(config.history[0].comment.as_deref(), Some("from a test"));

        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&archive()).unwrap();
        let again = import(&store, &packed.finish().unwrap()[..], &how()).unwrap();
        assert_eq!(again.id, record.id, "compression does not matter");
    }

    #[test]
    fn what_is_no_archive_is_refused_and_leaves_no_image() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path()).unwrap();
        let archive = archive();
        for bad in [&b""[..], b"no archive at all", &[7; 1024], &archive[..514]] {
            let error = import(&store, bad, &how()).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
        }
        assert!(store.images().unwrap().is_empty());
        let whole_layers = std::fs::read_dir(scratch.path().join("layers")).unwrap().count();
        assert_eq!((whole_layers, store.pool().ids().unwrap()), (0, vec![]), "garbage");
    }
}
