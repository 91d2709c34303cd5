//! `runion import`.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use layerstore::document::{Execution, Platform};
use layerstore::error::Context;
use layerstore::import::{Importing, import};
use layerstore::reference::Reference;
use layerstore::store::Store;

use super::platform;
use crate::failure::{Failure, Result};
use crate::output::{self, time};

/// Make an image of one layer from a root file system's archive
#[derive(Args)]
pub struct Import {
    /// Apply an instruction of a Dockerfile to the image: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
    /// ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(long, short, value_name = "INSTRUCTION")]
    change: Vec<String>,

    /// Say in the image's history where it is from
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,

    /// What the image runs on: os[/arch[/variant]]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// A tar archive, compressed or not; - for stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,

    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Import {
    /// Makes the image and prints its id.
    pub fn run(self, store: &Store) -> Result<u8> {
        let shown = self.file.display().to_string();
        let name = self.name.as_deref().map(Reference::parse).transpose()?;
        if let Some(name) = name.as_ref().filter(|name| name.digest().is_some()) {
            return Err(Failure::failed(format!("{name} cannot be a name: it has a digest")));
        }
        let platform = platform::wanted(self.platform.as_deref())?;
        let mut config = Execution::default();
        for change in &self.change {
            crate::change::apply(change, &mut config)?;
        }
        let how = Importing {
            platform: platform.unwrap_or_else(Platform::host),
            config,
            created: time::now_in_documents(),
            comment: self.message.unwrap_or_else(|| format!("Imported from {shown}")),
        };
        let archive: Box<dyn Read> = match shown.as_str() {
            "-" if std::io::stdin().is_terminal() => {
                return Err(Failure::failed("requested import from stdin, but stdin is a terminal"));
            }
            "-" => Box::new(std::io::stdin().lock()),
            _ if self.file.is_dir() => {
                return Err(Failure::failed(format!("{shown} is a directory and no archive"))
                    .hint(format!("tar -C {shown} -c . | runion import -")));
            }
            _ => Box::new(File::open(&self.file).context(|| format!("open {shown}")).map_err(|error| {
                match shown.contains("://") {
                    true => error.hint(format!("nothing is fetched here: curl -L {shown} | runion import -")),
                    false => error,
                }
            })?),
        };
        let image = import(store, archive, &how)?;
        if let Some(name) = &name {
            store.tag(image.id, name)?;
        }
        super::tell(store, "import", &image.id, name.as_ref());
        output::print(&format!("{}\n", image.id))?;
        Ok(0)
    }
}
