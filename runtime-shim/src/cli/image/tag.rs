//! `runion tag` and `runion untag`.

use clap::Args;
use layerstore::error::Kind;
use layerstore::reference::Reference;
use layerstore::store::Store;

use super::find;
use crate::failure::{Failure, Result};

/// Give an image a further name
#[derive(Args)]
pub struct Tag {
    /// A name or an id
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,

    /// The name; an image that has it loses it
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

/// Take a name away; the image stays, even without any
#[derive(Args)]
pub struct Untag {
    /// Names
    #[arg(required = true, value_name = "NAME[:TAG]")]
    names: Vec<String>,
}

impl Tag {
    /// Gives the name.
    pub fn run(self, store: &Store) -> Result<u8> {
        let name = Reference::parse(&self.target)?;
        if name.digest().is_some() {
            return Err(Failure::failed(format!("{:?} cannot be a name: it has a digest", self.target))
                .hint("name it as repository:tag"));
        }
        let id = find::image(store, &self.source)?.id();
        store.tag(id, &name)?;
        super::tell(store, "tag", &id, Some(&name));
        Ok(0)
    }
}

impl Untag {
    /// Takes the names away, and says which.
    pub fn run(self, store: &Store) -> Result<u8> {
        for text in &self.names {
            let name = Reference::parse(text)?;
            match store.untag(&name) {
                Ok(id) => {
                    super::tell(store, "untag", &id, Some(&name));
                    crate::output::print(&format!("Untagged: {name}\n"))?;
                }
                Err(error) if error.kind() == Kind::NotFound => return Err(find::no_such_image(text)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }
}
