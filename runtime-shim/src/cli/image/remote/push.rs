//! `runion push`.

use clap::{Args, ValueEnum};
use layerstore::document::Compression;
use layerstore::reference::Reference;
use layerstore::store::Store;
use layerstore::transfer::{self, Pushing};

use super::{Access, USING_DEFAULT_TAG, default_tag, look};
use crate::cli::image::find;
use crate::cli::image::platform::OfPlatform;
use crate::failure::{Failure, Result};
use crate::output::{self, progress};

/// Send an image to a registry
#[derive(Args)]
pub struct Push {
    /// The image's name, which says where it goes
    #[arg(value_name = "NAME[:TAG]")]
    name: String,

    /// Send every tag of the repository that is here
    #[arg(long, short)]
    all_tags: bool,

    /// How layers are compressed that the registry does not have
    #[arg(long, value_enum, default_value_t = Form::Gzip, value_name = "FORM")]
    compression: Form,

    /// Say nothing but the image's name
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    platform: OfPlatform,

    #[command(flatten)]
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Gzip,
    Zstd,
    None,
}

impl Push {
    /// Pushes, and says what.
    pub fn run(self, store: &Store) -> Result<u8> {
        let name = Reference::parse(&self.name)?;
        if name.digest().is_some() {
            return Err(Failure::failed("cannot push a digest reference"));
        }
        let names = match self.all_tags {
            false => vec![name.clone()],
            true => {
                let images = store.images()?.into_iter().flat_map(|image| image.names);
                let mut names: Vec<_> =
                    images.filter(|found| found.repository() == name.repository()).collect();
                names.sort();
                names
            }
        };
        if names.is_empty() {
            return Err(Failure::failed(format!(
                "An image does not exist locally with the tag: {}",
                name.repository()
            )));
        }
        let client = self.access.client(name.repository().registry())?;
        if !self.quiet {
            if default_tag(&self.name) && !self.all_tags {
                output::print(USING_DEFAULT_TAG)?;
            }
            output::print(&format!("The push refers to repository [{}]\n", name.repository().canonical()))?;
        }
        for name in &names {
            self.push(store, &client, name)?;
        }
        Ok(0)
    }

    fn push(&self, store: &Store, client: &layerstore::registry::Client, name: &Reference) -> Result<()> {
        let missing = || {
            Failure::failed(format!("An image does not exist locally with the tag: {}", name.repository()))
        };
        let image = find::present(store, &name.to_string())?.ok_or_else(missing)?;
        self.platform.check(store, &image, &name.to_string())?;
        let compression = match self.compression {
            Form::Gzip => Compression::Gzip,
            Form::Zstd => Compression::Zstd,
            Form::None => Compression::None,
        };
        let progress = progress::Progress::new(progress::Direction::Push, look(self.quiet));
        let watch = |digest, step| progress.note(digest, step);
        let pushed = transfer::push(store, client, &image.record, name, Pushing { compression }, &watch)?;
        crate::cli::image::tell(store, "push", &image.id(), Some(name));
        match self.quiet {
            true => output::print(&format!("{}\n", name.canonical())),
            false => {
                let tag = name.tag().unwrap_or_default();
                output::print(&format!("{tag}: digest: {} size: {}\n", pushed.digest, pushed.size))
            }
        }
    }
}
