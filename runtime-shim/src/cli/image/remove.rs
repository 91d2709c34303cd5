//! `runion rmi`.

use clap::Args;
use layerstore::error::Kind;
use layerstore::reference::Reference;
use layerstore::store::{Image, Store, short};

use super::find::{self, Named};
use super::platform::OfPlatform;
use super::tell;
use super::users::Users;
use crate::failure::{Failure, Result};
use crate::output;

/// Remove images: a name, and with an image's last name the image
///
/// Its layers and files go if no other image has them.
#[derive(Args)]
pub struct Remove {
    /// Remove an image with several names by its id; do not mind what is not there
    #[arg(long, short)]
    force: bool,

    /// Leave layers that nobody needs for the next prune
    #[arg(long)]
    no_prune: bool,

    #[command(flatten)]
    platform: OfPlatform,

    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Remove {
    /// Removes each, says what, and goes on after a failure.
    pub fn run(self, store: &Store) -> Result<u8> {
        let (mut failures, mut only_missing) = (Vec::new(), true);
        let mut removed_one = false;
        let users = Users::find(store)?;
        for text in &self.images {
            match self.remove(store, &users, text) {
                Ok(Done { said, removed }) => {
                    removed_one |= removed;
                    output::print(&said)?;
                }
                Err(Refused { failure, is_missing }) => {
                    only_missing &= is_missing;
                    failures.push(failure);
                }
            }
        }
        if removed_one && !self.no_prune {
            // Who adds at the moment keeps the rest until the next collection.
            let collected = store.try_collect()?.unwrap_or_default();
            let layers = collected.layers.iter();
            output::print(&layers.map(|layer| format!("Deleted: {layer}\n")).collect::<String>())?;
        }
        let code = failures.iter().map(Failure::report).max().unwrap_or(0);
        Ok(if self.force && only_missing { 0 } else { code })
    }

    /// Whoever gives or takes a name meanwhile changes what is meant: it is looked
    /// at again.
    fn remove(&self, store: &Store, users: &Users, text: &str) -> Result<Done, Refused> {
        loop {
            if let Some(done) = self.try_remove(store, users, text)? {
                return Ok(done);
            }
        }
    }

    /// `None` if the image is called something else by now.
    fn try_remove(&self, store: &Store, users: &Users, text: &str) -> Result<Option<Done>, Refused> {
        let Some(image) = find::present(store, text)? else {
            return Err(Refused { failure: find::no_such_image(text), is_missing: true });
        };
        self.platform.check(store, &image, text)?;
        match find::named(&image, text) {
            Named::Name(name) => {
                if image.names.len() > 1 {
                    store.untag(&name)?;
                    tell(store, "untag", &image.id(), Some(&name));
                    return Ok(Some(Done { said: untagged([&name]), removed: false }));
                }
                if !self.force {
                    users.check_name(&image, &name.to_string())?;
                }
            }
            Named::Digest(digest) => {
                if !image.names.is_empty() || image.record.digests.len() > 1 {
                    store.forget_digest(image.id(), &digest)?;
                    let name = Reference::parse(&digest)?;
                    return Ok(Some(Done { said: untagged([&name]), removed: false }));
                }
            }
            Named::Id => {
                self.check_names(&image)?;
                users.check_image(&image.id(), self.force)?;
            }
        }
        match users.count(&image.id()) {
            0 => removed(store, users, &image),
            // Its files are its containers' as well.
            _ => unnamed(store, &image).map(Some),
        }
    }

    /// By its id an image goes with its names, if these are one at most.
    fn check_names(&self, image: &Image) -> Result<(), Refused> {
        if image.names.len() <= 1 || self.force {
            return Ok(());
        }
        let id = short(&image.id());
        let names: Vec<String> = image.names.iter().map(Reference::to_string).collect();
        Err(Failure::as_docker(format!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        ))
        .hint(format!("it is {}; name one of them, or use -f", names.join(", ")))
        .into())
    }
}

/// What was done.
struct Done {
    /// In docker's lines.
    said: String,
    /// Whether an image is gone.
    removed: bool,
}

struct Refused {
    failure: Failure,
    is_missing: bool,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused { failure, is_missing: false }
    }
}

impl From<layerstore::Error> for Refused {
    fn from(error: layerstore::Error) -> Refused {
        Failure::from(error).into()
    }
}

/// Takes all names away, and leaves the image.
fn unnamed(store: &Store, image: &Image) -> Result<Done, Refused> {
    for name in &image.names {
        store.untag(name)?;
        tell(store, "untag", &image.id(), Some(name));
    }
    for digest in &image.record.digests {
        store.forget_digest(image.id(), digest)?;
    }
    Ok(Done { said: untagged(&names_of(image)), removed: false })
}

fn removed(store: &Store, users: &Users, image: &Image) -> Result<Option<Done>, Refused> {
    let id = image.id();
    match store.remove_unchanged(image, || users.has_grown(store, &id)) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) if error.kind() == Kind::InUse => {
            let id = short(&id);
            return Err(Failure::as_docker(format!(
                "conflict: unable to delete {id} (cannot be forced) - image is in use"
            ))
            .into());
        }
        Err(error) => return Err(error.into()),
    }
    for name in &image.names {
        tell(store, "untag", &image.id(), Some(name));
    }
    tell(store, "delete", &image.id(), None);
    let names = untagged(&names_of(image));
    Ok(Some(Done { said: format!("{names}Deleted: {}\n", image.id()), removed: true }))
}

/// The names that an image loses when it goes.
pub fn names_of(image: &Image) -> Vec<Reference> {
    let digests = image.record.digests.iter().filter_map(|digest| Reference::parse(digest).ok());
    image.names.iter().cloned().chain(digests).collect()
}

fn untagged<'n>(names: impl IntoIterator<Item = &'n Reference>) -> String {
    names.into_iter().map(|name| format!("Untagged: {name}\n")).collect()
}
