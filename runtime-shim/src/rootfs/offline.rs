//! A container's root to be read without a mount: the union's code in this
//! process, over what lies on disk.
//!
//! A server may be changing that meanwhile: then the reader sees some moment of
//! each file, as any reader of a container that runs does.

use layerstore::store::InUse;
use unionfs::Union;
use unionfs::config::{Config, RedirectDir, Squash};

use super::{Files, Source, dress_upper};
use crate::container::{Container, Record};
use crate::failure::{Context, Result};
use crate::sandbox::identity::{Giving, Plan};

/// A root, with the image's ids.
pub struct Offline {
    /// Its files.
    pub union: Union,
    _image: Option<InUse>,
}

/// Opens it, with the rights over its files that its monitor has.
pub fn open(container: &Container, record: &Record, plan: &Plan) -> Result<Offline> {
    let Source { files, verity, image } = Source::of(container, record)?;
    dress_upper(container, record, plan, &files)?;
    let (lower, data_only) = match files {
        Files::Image { index, objects } => (index, vec![objects]),
        Files::Directory(dir) => (dir, Vec::new()),
    };
    let squash = match plan.giving() {
        Giving::Any => Squash::None,
        Giving::None => Squash::To { uid: Some(0), gid: Some(0) },
    };
    let config = Config {
        // Below another there is no upper: nothing is written.
        lowers: vec![container.upper(), lower],
        data_only,
        verity,
        redirect_dir: RedirectDir::Follow,
        index: false,
        namespace: plan.marks(),
        squash,
        // Programs are told with what they gain.
        suid: true,
        ..Config::default()
    };
    let union = Union::open(config).context(|| "cannot read the container's files".to_owned())?;
    Ok(Offline { union, _image: image })
}
