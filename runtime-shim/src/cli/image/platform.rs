//! `--platform` of what is here already. An image is of one platform, so there
//! is nothing to choose: another one than was asked for is refused.

use clap::Args;
use layerstore::document::Platform;
use layerstore::store::{Image, Store};

use crate::failure::{Failure, Result};

/// What images have to run on.
#[derive(Args)]
pub struct OfPlatform {
    /// Only an image that runs on it: os[/arch[/variant]]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

impl OfPlatform {
    /// Refuses an image that a user called `text`, if it runs elsewhere.
    pub fn check(&self, store: &Store, image: &Image, text: &str) -> Result<()> {
        match wanted(self.platform.as_deref())? {
            Some(platform) => check(store, image, text, &platform),
            None => Ok(()),
        }
    }
}

/// The platform that a user asks for, as it was typed.
pub fn wanted(typed: Option<&str>) -> Result<Option<Platform>> {
    Ok(typed.map(str::parse).transpose()?)
}

/// Refuses an image that a user called `text`, if it does not run on `platform`.
pub fn check(store: &Store, image: &Image, text: &str, platform: &Platform) -> Result<()> {
    let config = store.config(&image.record)?;
    if config.fits(platform) {
        return Ok(());
    }
    let message = format!(
        "image with reference {text} was found but does not provide the specified platform ({platform})"
    );
    Err(Failure::as_docker(message).hint(format!("it is for {}", config.platform())))
}
