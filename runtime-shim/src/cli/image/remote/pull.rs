//! `runion pull`.

use clap::Args;
use layerstore::document::{ImageConfig, Platform};
use layerstore::reference::Reference;
use layerstore::store::Store;
use layerstore::transfer::{self, Pulled};

use super::{Access, USING_DEFAULT_TAG, default_tag, look};
use crate::cli::image::platform;
use crate::failure::{Failure, Result, say};
use crate::output::{self, progress};

/// Get an image from a registry
#[derive(Args)]
pub struct Pull {
    /// The image: [REGISTRY/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,

    /// Get every tag of the repository
    #[arg(long, short)]
    all_tags: bool,

    /// Which of several platforms' images: os[/arch[/variant]]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Say nothing but the image's name
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    access: Access,
}

impl Pull {
    /// Pulls, and says what.
    pub fn run(self, store: &Store) -> Result<u8> {
        let platform = platform::wanted(self.platform.as_deref())?.unwrap_or_else(Platform::host);
        let name = Reference::parse(&self.name)?;
        let client = self.access.client(name.repository().registry())?;
        if !self.all_tags {
            self.pull(store, &client, &name, &platform)?;
            return Ok(0);
        }
        if !default_tag(&self.name) {
            return Err(Failure::failed("tag can't be used with --all-tags/-a"));
        }
        for tag in client.tags(name.repository())? {
            self.pull(store, &client, &name.with_tag(&tag)?, &platform)?;
        }
        Ok(0)
    }

    fn pull(
        &self,
        store: &Store,
        client: &layerstore::registry::Client,
        name: &Reference,
        platform: &Platform,
    ) -> Result<()> {
        if !self.quiet {
            if default_tag(&self.name) && !self.all_tags {
                output::print(USING_DEFAULT_TAG)?;
            }
            let tag = name
                .tag()
                .map_or_else(|| name.digest().map(|digest| digest.to_string()), |tag| Some(tag.to_owned()));
            output::print(&format!(
                "{}: Pulling from {}\n",
                tag.unwrap_or_default(),
                name.repository().path()
            ))?;
        }
        let progress = progress::Progress::new(progress::Direction::Pull, look(self.quiet));
        let pulled =
            transfer::pull(store, client, name, platform, &|digest, step| progress.note(digest, step))?;
        crate::cli::image::tell(store, "pull", &pulled.id, Some(name));
        if self.platform.is_some() {
            warn_of_another(store, &pulled, name, platform)?;
        }
        if self.quiet {
            return output::print(&format!("{}\n", name.canonical()));
        }
        let news = if pulled.is_news { "Downloaded newer image for" } else { "Image is up to date for" };
        output::print(&format!("Digest: {}\nStatus: {news} {name}\n{}\n", pulled.digest, name.canonical()))
    }
}

/// A name that leads to an image of one platform alone gives that, whatever was
/// asked for: docker's words about it.
fn warn_of_another(store: &Store, pulled: &Pulled, name: &Reference, platform: &Platform) -> Result<()> {
    let config = ImageConfig::parse(&store.blob(pulled.id)?)?;
    if !config.fits(platform) {
        let found = config.platform();
        say(&format!(
            "WARNING: image with reference {name} was found but its platform ({found}) does not match the \
             specified platform ({platform})"
        ));
    }
    Ok(())
}
