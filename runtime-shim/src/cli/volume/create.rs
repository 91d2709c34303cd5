//! `runion volume create`.

use std::collections::BTreeMap;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::output;
use crate::random;
use crate::volume::{Volume, Volumes};

/// Make a volume
///
/// Options of the driver: type=tmpfs with device=tmpfs and o=size=…, of which
/// each container has its own; type=none with o=bind and device=DIRECTORY, a
/// directory of the host's.
#[derive(Args)]
pub struct Create {
    /// Who keeps it: there is `local` only
    #[arg(long, short, value_name = "DRIVER", default_value = "local")]
    driver: String,

    /// A word about it: KEY[=VALUE]
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,

    /// An option of the driver: KEY=VALUE
    #[arg(long = "opt", short, value_name = "OPTION")]
    options: Vec<String>,

    /// What it is to be called; 64 random digits where nothing is said
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

impl Create {
    /// Makes it, unless it is there, and prints its name.
    pub fn run(self, volumes: &Volumes) -> Result<u8> {
        if self.driver != "local" {
            return Err(Failure::as_docker(format!(
                "error looking up volume plugin {0}: plugin \"{0}\" not found",
                self.driver
            )));
        }
        let anonymous = self.name.as_deref().is_none_or(str::is_empty);
        let name = match self.name.filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => random::id()?,
        };
        let labels = self.label.iter().map(|label| pair(label)).collect();
        let options = self.options.iter().map(|option| match option.contains('=') {
            true => Ok(pair(option)),
            false => Err(Failure::as_docker(format!("the option {option:?} is not of the form KEY=VALUE"))),
        });
        let options = options.collect::<Result<BTreeMap<_, _>>>()?;
        let made = volumes
            .create(&Volume { name, labels, options, anonymous, ..Volume::default() })
            .map_err(|failure| failure.code(crate::failure::FAILED))?;
        output::print(&format!("{}\n", made.name))?;
        Ok(0)
    }
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}
