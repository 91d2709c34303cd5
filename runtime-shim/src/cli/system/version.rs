//! `runion version`.

use clap::Args;
use serde_json::{Value, json};

use crate::failure::Result;
use crate::output::{self, template::Template};

/// Say which version this is
#[derive(Args)]
pub struct Version {
    /// `json`, or a template of Go's
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
}

impl Version {
    /// Says it; for scripts that ask docker's server, the same as both.
    pub fn run(self) -> Result<u8> {
        let known = known();
        let text = match self.format.as_deref().map(str::trim) {
            None | Some("") => {
                let of = |name: &str| known[name].as_str().unwrap_or_default().to_owned();
                format!(
                    "runion:\n Version:     {}\n OS/Arch:     {}/{}\n Kernel:      {}\n OCI runtime: {}\n",
                    of("Version"),
                    of("Os"),
                    of("Arch"),
                    of("KernelVersion"),
                    of("OciVersion"),
                )
            }
            Some(format) => {
                let format = if format == "json" { "{{json .}}" } else { format };
                let both = json!({ "Client": known, "Server": known });
                Template::parse(format)?.render(&both)? + "\n"
            }
        };
        output::print(&text)?;
        Ok(0)
    }
}

/// In docker's fields.
fn known() -> Value {
    let kernel = rustix::system::uname();
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": "linux",
        "Arch": layerstore::document::Platform::host().architecture.as_str(),
        "KernelVersion": kernel.release().to_string_lossy(),
        "OciVersion": crate::bundle::VERSION,
    })
}
