//! `runion volume inspect`.

use clap::Args;
use serde_json::{Value, json};

use crate::failure::{Context, Result};
use crate::output::{self, template::Template, time};
use crate::volume::{Volume, Volumes};

/// Show all that is known of volumes, as JSON
#[derive(Args)]
pub struct Inspect {
    /// Print by a Go template, or json
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,

    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

impl Inspect {
    /// Prints each; what is missing is said after the others.
    pub fn run(self, volumes: &Volumes) -> Result<u8> {
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for name in &self.names {
            match volumes.find(name) {
                Ok(volume) => found.push(shown(volumes, &volume)),
                Err(failure) => failures.push(failure),
            }
        }
        let text = match self.format.as_deref() {
            None => serde_json::to_string_pretty(&found).context(|| "cannot show it".to_owned())? + "\n",
            Some(format) => {
                let format = if format == "json" { "{{json .}}" } else { format };
                let template = Template::parse(format)?;
                found.iter().map(|value| Ok(template.render(value)? + "\n")).collect::<Result<String>>()?
            }
        };
        output::print(&text)?;
        Ok(failures.iter().map(|failure| failure.report()).max().unwrap_or(0))
    }
}

/// In docker's names.
fn shown(volumes: &Volumes, volume: &Volume) -> Value {
    let or_null = |map: &std::collections::BTreeMap<String, String>| match map.is_empty() {
        true => Value::Null,
        false => json!(map),
    };
    json!({
        "CreatedAt": time::local_in_documents(time::parse(Some(&volume.created))),
        "Driver": "local",
        "Labels": or_null(&volume.labels),
        "Mountpoint": volumes.data(&volume.name),
        "Name": volume.name,
        "Options": or_null(&volume.options),
        "Scope": "local",
    })
}
