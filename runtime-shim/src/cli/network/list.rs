//! `runion network ls`.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::filter::{Label, Wanted};
use crate::failure::{Failure, Result};
use crate::network::{Network, Networks};
use crate::output::Format;

/// List networks
#[derive(Args)]
#[command(
    after_help = "Filters: id=, name=, driver=, type=builtin|custom, label=KEY[=VALUE], dangling=true|false"
)]
pub struct List {
    /// List only networks of which this is true
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,

    /// `table`, `json`, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,

    /// Print ids alone
    #[arg(long, short)]
    quiet: bool,
}

const COLUMNS: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
const HEADERS: [(&str, &str); 8] = [
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

impl List {
    /// Prints the list; `host` and `none` are always there.
    pub fn run(self, networks: &Networks) -> Result<u8> {
        let format = match (self.format.as_deref(), self.quiet) {
            (None | Some("table"), true) => Format::rows("{{.ID}}")?,
            (given, _) => Format::parse(given, COLUMNS)?,
        };
        let mut rows = Vec::new();
        for network in networks.list()? {
            let is_used = !networks.leases(&network)?.is_empty();
            if self.means(&network, is_used)? {
                rows.push(self.row(&network));
            }
        }
        for (name, id) in [("host", "host"), ("none", "null")] {
            let built_in = Network {
                name: name.to_owned(),
                id: format!("{id:0<64}"),
                driver: id.to_owned(),
                ..nothing()
            };
            if self.means(&built_in, true)? {
                rows.push(self.row(&built_in));
            }
        }
        rows.sort_by_key(|row: &Value| {
            row.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned()
        });
        format.print(&HEADERS, &rows)?;
        Ok(0)
    }

    fn row(&self, network: &Network) -> Value {
        let labels: Vec<String> =
            network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        json!({
            "ID": if self.no_trunc { network.id.as_str() } else { network.id.get(..12).unwrap_or(&network.id) },
            "Name": network.name,
            "Driver": network.driver,
            "Scope": "local",
            "IPv6": network.ipv6.to_string(),
            "Internal": network.internal.to_string(),
            "Labels": labels.join(","),
            "CreatedAt": network.created,
        })
    }

    fn means(&self, network: &Network, is_used: bool) -> Result<bool> {
        for filter in &self.filter {
            let holds = match filter.split_once('=') {
                Some(("id", id)) => network.id.starts_with(id),
                Some(("name", name)) => network.name.contains(name),
                Some(("driver", driver)) => network.driver == driver,
                Some(("type", "builtin")) => is_built_in(network),
                Some(("type", "custom")) => !is_built_in(network),
                Some(("dangling", "true")) => !is_used && !is_built_in(network),
                Some(("dangling", "false")) => is_used || is_built_in(network),
                Some(("label", label)) => Label::new(label, Wanted::Yes).fits(&network.labels),
                _ => return Err(Failure::as_docker(format!("Invalid filter '{filter}'"))),
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn is_built_in(network: &Network) -> bool {
    network.is_default() || matches!(network.name.as_str(), "host" | "none")
}

fn nothing() -> Network {
    Network {
        name: String::new(),
        id: String::new(),
        created: String::new(),
        driver: String::new(),
        subnets: Vec::new(),
        ipv6: false,
        internal: false,
        labels: Default::default(),
        options: Default::default(),
        bridge: String::new(),
    }
}
