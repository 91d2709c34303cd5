//! Making a container of what was typed: what `run` and `create` share.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use layerstore::document::{Execution, Platform};
use layerstore::reference::Reference;
use layerstore::store::{Image, Store};
use layerstore::transfer;

use crate::cli::image::{find, platform, remote};
use crate::container::{Config, Container, Containers, ImageRef, Record, Wish};
use crate::events;
use crate::failure::{Context, Failure, OURS, Result, say};
use crate::output::progress::{Direction, Progress};
use crate::output::time;
use crate::random;
use crate::rootfs;
use crate::spec::flags::{Flags, Pull};
use crate::spec::{mount, user, userns};
use crate::volume::{Volume, Volumes};

/// What both are given.
#[derive(Args)]
pub struct Words {
    #[command(flatten)]
    pub flags: Flags,

    #[command(flatten)]
    access: remote::Access,

    /// The image, unless there is --rootfs; then the command and its arguments,
    /// the image's own where there are none
    // One list: what follows the image is never an option of ours.
    #[arg(trailing_var_arg = true, num_args = 0.., value_names = ["IMAGE", "CMD"])]
    words: Vec<OsString>,
}

/// Whether whoever starts the container stays attached to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starter {
    /// It does.
    Stays,
    /// It does not.
    Leaves,
}

impl Words {
    /// Makes the container, its anonymous volumes and its id's file.
    pub fn make(&self, store: &Store, starter: Starter) -> Result<Container> {
        let words = self.words.iter().map(text).collect::<Result<Vec<String>>>()?;
        let containers = Containers::open(store.root())?;
        let find = |name: &str| containers.find(name).map(|container| container.id().to_owned());
        let (image, command) = match (&self.flags.rootfs, words.split_first()) {
            (Some(_), _) => (None, words.as_slice()),
            (None, Some((image, command))) => (Some(self.image(store, image)?), command),
            (None, None) => {
                return Err(Failure::new("no image was named").hint("runion run IMAGE [CMD]"));
            }
        };
        // Nobody removes it before there is a container to keep it.
        let _held = image.as_ref().map(|image| store.hold(image.id())).transpose()?;
        let execution = match &image {
            Some(image) => {
                let config = store.config(&image.record)?;
                let host = Platform::host();
                if self.flags.platform.is_none() && !config.fits(&host) {
                    say(&format!(
                        "WARNING: The requested image's platform ({}) does not match the detected host platform \
                         ({host}) and no specific platform was requested",
                        config.platform()
                    ));
                }
                config.config
            }
            None => Execution::default(),
        };
        let mut config = self.flags.config(&execution, command, &find, &self.lent(&containers)?)?;
        config.stdin = self.flags.stdin(starter == Starter::Stays);
        config.image = image.as_ref().map(|image| ImageRef {
            id: image.id().to_string(),
            name: words.first().cloned().unwrap_or_default(),
        });
        if let Some(dir) = &self.flags.rootfs {
            let shown = || format!("cannot use {} as a root", dir.display());
            config.rootfs = Some(dir.canonicalize().context(shown)?);
        }
        let cidfile = self.flags.cidfile.as_ref().map(|path| {
            std::fs::File::create_new(path).map_err(|error| {
                Failure::new(format!("cannot make the container's id file {}: {error}", path.display()))
                    .hint("remove it, or name another")
            })
        });
        let mut cidfile = cidfile.transpose()?;
        make_volumes(store, &mut config)?;
        let name = self.flags.name.clone().unwrap_or_default();
        let size = userns::size(&config, || match &image {
            Some(image) => ids_of(store, image),
            None => Ok(Vec::new()),
        })?;
        let turn = size.map(|size| containers.take_ids(&mut config, size)).transpose()?;
        let container = containers.create(Record::new(name, time::now_in_documents(), config))?;
        drop(turn);
        events::of_container(store.root(), &container.read()?, "create", &[]);
        if let Some(file) = &mut cidfile {
            file.write_all(container.id().as_bytes())
                .context(|| "cannot write the container's id".to_owned())?;
        }
        Ok(container)
    }

    /// What containers of `--volumes-from` have mounted.
    fn lent(&self, containers: &Containers) -> Result<Vec<Wish>> {
        let mut lent = Vec::new();
        for text in &self.flags.volumes_from {
            let (name, word) = mount::lent(text)?;
            lent.extend(mount::lend(&containers.find(name)?.read()?.config.mounts, word));
        }
        Ok(lent)
    }

    fn image(&self, store: &Store, text: &str) -> Result<Image> {
        let wanted = platform::wanted(self.flags.platform.as_deref())?;
        let here = find::present_or_builtin(store, text)?.map(|image| {
            let fits = wanted.as_ref().map_or(Ok(()), |wanted| platform::check(store, &image, text, wanted));
            fits.map(|()| image)
        });
        match (here, self.flags.pull) {
            (Some(Ok(image)), Pull::Missing | Pull::Never) => return Ok(image),
            (Some(Err(another)), Pull::Never) => return Err(another),
            (None, Pull::Never) => return Err(find::no_such_image(text)),
            // One of another platform is not the one that is missing.
            (_, Pull::Always) | (Some(Err(_)) | None, Pull::Missing) => {}
        }
        let name = Reference::parse(text)?;
        say(&format!("Unable to find image '{name}' locally"));
        let platform = wanted.unwrap_or_else(Platform::host);
        let client = self.access.client(name.repository().registry())?;
        // What a command prints is its own: progress is told on a terminal alone.
        let look = if std::io::stdout().is_terminal() { remote::look(false) } else { remote::look(true) };
        let progress = Progress::new(Direction::Pull, look);
        let pulled =
            transfer::pull(store, &client, &name, &platform, &|digest, step| progress.note(digest, step))?;
        crate::cli::image::tell(store, "pull", &pulled.id, Some(&name));
        Ok(store.find(&pulled.id.to_string())?)
    }
}

/// The users and groups that an image knows.
fn ids_of(store: &Store, image: &Image) -> Result<Vec<u32>> {
    let tables =
        user::TABLES.map(|table| rootfs::file::read(store, image, table).map(|table| user::ids(&table)));
    Ok(tables.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// Makes the volumes that are not there; those without a name get one.
fn make_volumes(store: &Store, config: &mut Config) -> Result<()> {
    let volumes = Volumes::open(store.root());
    for wish in &mut config.mounts {
        let Wish::Volume { name, anonymous, .. } = wish else { continue };
        if name.is_empty() {
            *name = random::id()?;
        }
        volumes.create(&Volume { name: name.clone(), anonymous: *anonymous, ..Volume::default() })?;
    }
    Ok(())
}

/// A bundle is JSON, and that is text.
fn text(word: &OsString) -> Result<String> {
    std::str::from_utf8(word.as_bytes()).map(str::to_owned).map_err(|error| {
        Failure::new(format!("cannot pass the word {} on: {error}", word.to_string_lossy())).code(OURS)
    })
}
