//! `runion search`.

use clap::Args;
use layerstore::reference::{DEFAULT_REGISTRY, parse_registry};
use layerstore::registry::SearchResult;
use serde_json::json;

use super::Access;
use crate::failure::{Failure, Result};
use crate::output::{Format, shortened};

/// Search a registry for repositories, where it offers that
#[derive(Args)]
#[command(
    after_help = "Fields of --format: .Name .Description .StarCount .IsOfficial\nFilters: stars=N, is-official=true|false"
)]
pub struct Search {
    /// Words, after a registry where it is not docker.io: REGISTRY/WORDS
    #[arg(value_name = "TERM")]
    term: String,

    /// At most so many
    #[arg(long, default_value_t = 25, value_name = "N")]
    limit: u32,

    /// Show only repositories of which this is true
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,

    /// Show descriptions whole
    #[arg(long)]
    no_trunc: bool,

    /// As a template says, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    #[command(flatten)]
    access: Access,
}

/// Descriptions are cut here, as docker does.
const DESCRIPTION: usize = 45;

impl Search {
    /// Searches, and shows what was found.
    pub fn run(self) -> Result<u8> {
        let (registry, words) = match self.term.split_once('/') {
            Some((registry, words)) if registry.contains(['.', ':']) || registry == "localhost" => {
                (parse_registry(registry)?, words)
            }
            _ => (DEFAULT_REGISTRY.to_owned(), self.term.as_str()),
        };
        let filters = self.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
        let mut found = self.access.client(&registry)?.search(&registry, words, self.limit)?;
        found.retain(|found| filters.iter().all(|filter| filter.fits(found)));
        let ok = |is: bool| if is { "[OK]" } else { "" };
        let rows: Vec<_> = found
            .iter()
            .map(|found| {
                let description = match self.no_trunc {
                    true => found.description.clone(),
                    false => shortened(&found.description, DESCRIPTION),
                };
                json!({
                    "Name": found.name,
                    "Description": description,
                    "StarCount": found.star_count.to_string(),
                    "IsOfficial": ok(found.is_official),
                })
            })
            .collect();
        let own = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
        let headers = [
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("StarCount", "STARS"),
            ("IsOfficial", "OFFICIAL"),
        ];
        Format::parse(self.format.as_deref(), own)?.print(&headers, &rows)?;
        Ok(0)
    }
}

/// A condition of `--filter`.
enum Filter {
    /// So many people like it at least.
    Stars(u64),
    /// Whether the registry's operator keeps it.
    Official(bool),
}

impl Filter {
    fn parse(text: &str) -> Result<Filter> {
        let invalid = || {
            Failure::failed(format!("invalid filter '{text}'"))
                .hint("there are stars=N, is-official=true|false")
        };
        match text.split_once('=').ok_or_else(invalid)? {
            ("stars", least) => Ok(Filter::Stars(least.parse().map_err(|_| invalid())?)),
            ("is-official", "true" | "1") => Ok(Filter::Official(true)),
            ("is-official", "false" | "0") => Ok(Filter::Official(false)),
            _ => Err(invalid()),
        }
    }

    fn fits(&self, found: &SearchResult) -> bool {
        match self {
            Filter::Stars(least) => found.star_count >= *least,
            Filter::Official(wanted) => found.is_official == *wanted,
        }
    }
}
