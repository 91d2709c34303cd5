//! `runion commit`.

use clap::Args;
use layerstore::document::{Execution, Other};
use layerstore::reference::Reference;
use layerstore::store::Store;
use layerstore::upper;

use super::changes::{self, Changes};
use super::{find, pause};
use crate::container::{Config, Container, Holder, Record, Status};
use crate::failure::{FAILED, Failure, Result, say};
use crate::output::{self, time};

/// Make an image of a container: of its image, and what it changed
///
/// What is in volumes is not in it.
#[derive(Args)]
pub struct Commit {
    /// Say in the image who made it
    #[arg(long, short, value_name = "NAME")]
    author: Option<String>,

    /// Apply an instruction of a Dockerfile to the image: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
    /// ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(long, short, value_name = "INSTRUCTION")]
    change: Vec<String>,

    /// Say in the image's history why
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,

    /// Hold the container's processes meanwhile
    #[arg(long, short, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pause: bool,

    /// A name or an id
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Commit {
    /// Makes the image and prints its id.
    pub fn run(self, store: &Store) -> Result<u8> {
        self.outcome(store).map_err(|failure| failure.code(FAILED))
    }

    fn outcome(&self, store: &Store) -> Result<u8> {
        let name = self.name.as_deref().map(Reference::parse).transpose()?;
        if let Some(name) = name.as_ref().filter(|name| name.digest().is_some()) {
            return Err(Failure::failed(format!("{name} cannot be a name: it has a digest")));
        }
        let (container, record) = find::container(store, &self.container)?;
        let Some((image, _held)) = changes::image(store, &record)? else {
            return Err(Failure::failed(format!(
                "the container {} has no image to be committed to",
                record.name
            ))
            .hint("make one of all its files: runion export CONTAINER | runion import - NAME"));
        };
        let mut execution = execution(store.config(&image.record)?.config, &record.config);
        for change in &self.change {
            crate::change::apply(change, &mut execution)?;
        }
        let how = upper::Commit {
            config: Some(execution),
            author: self.author.clone(),
            comment: self.message.clone(),
            created_by: Some(record.config.command.join(" ")).filter(|words| !words.is_empty()),
            created: Some(time::now_in_documents()),
        };
        let held = self.pause.then(|| Held::hold(&container, &record)).transpose()?.flatten();
        let committed = Changes::of(&container, &record).and_then(|changes| {
            changes::with_its_ids(|| {
                let made = upper::commit(store, &image.record, &changes.upper, how)?;
                if let Some(name) = &name {
                    store.tag(made.id, name)?;
                }
                output::print(&format!("{}\n", made.id))
            })
        });
        held.map_or(Ok(()), Held::let_go)?;
        committed
    }
}

/// A container whose processes stand still for the time being.
struct Held<'c> {
    container: &'c Container,
    _holder: Holder,
}

impl<'c> Held<'c> {
    fn hold(container: &'c Container, record: &Record) -> Result<Option<Held<'c>>> {
        if record.state.status != Status::Running {
            return Ok(None);
        }
        if record.state.cgroup.is_none() {
            say("runion: the container goes on while it is committed: it has no cgroup to be held by");
            return Ok(None);
        }
        let holder = container.holder()?;
        pause::hold(container, pause::By::Command)?;
        Ok(Some(Held { container, _holder: holder }))
    }

    fn let_go(self) -> Result<()> {
        pause::resume(self.container)
    }
}

/// How the container runs is how its image does: docker keeps of the image what
/// no container can change.
fn execution(image: Execution, config: &Config) -> Execution {
    let mut exposed_ports = image.exposed_ports.clone();
    exposed_ports.extend(config.exposed.iter().map(|port| (port.clone(), Other::default())));
    let directory = config.directory.display().to_string();
    let working_dir = match image.working_dir.is_empty() && directory == "/" {
        true => String::new(),
        false => directory,
    };
    Execution {
        user: config.user.clone(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.command.clone(),
        working_dir,
        labels: config.labels.clone(),
        exposed_ports,
        healthcheck: config.health.clone(),
        stop_signal: config.stop_signal.clone().or(image.stop_signal.clone()),
        ..image
    }
}
