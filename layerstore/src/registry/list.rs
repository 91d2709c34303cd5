//! Names that a registry gives: tags, repositories, search results.

use std::io::Read;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, header};

use super::Client;
use super::endpoint::Endpoint;
use super::failure::printable;
use super::pull::found;
use super::token::Scope;
use super::transport::{Request, header_text};
use super::url::{Url, escape};
use crate::document::DOCUMENT_LIMIT;
use crate::error::{Error, Kind, Result};
use crate::reference::{DEFAULT_REGISTRY, Repository};

/// How many names a page should have.
const PAGE: usize = 1000;
/// How many names are listed before it is called endless.
const NAME_LIMIT: usize = 1_000_000;
/// How many pages.
const PAGE_LIMIT: usize = 10_000;
/// The server that searches the default registry.
const DEFAULT_SEARCH: &str = "index.docker.io";

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    results: Vec<SearchResult>,
}

/// A repository that a search found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SearchResult {
    /// Its path, without `library/`.
    pub name: String,
    /// What its owner says of it, fit to be printed.
    #[serde(default)]
    pub description: String,
    /// How many people like it.
    #[serde(default)]
    pub star_count: u64,
    /// Whether the registry's operator keeps it.
    #[serde(default)]
    pub is_official: bool,
}

impl Client {
    /// All tags of a repository.
    pub fn tags(&self, repository: &Repository) -> Result<Vec<String>> {
        let endpoint = self.origin(repository.registry())?;
        let url = endpoint.url(&format!("/v2/{}/tags/list?n={PAGE}", repository.path()));
        let scope = Scope::Pull(repository.clone());
        self.pages(&endpoint, url, &scope, &repository.to_string(), |page: Tags| page.tags)
    }

    /// All repositories of a registry, if it tells; many do not.
    pub fn catalog(&self, registry: &str) -> Result<Vec<String>> {
        let endpoint = self.origin(registry)?;
        let url = endpoint.url(&format!("/v2/_catalog?n={PAGE}"));
        self.pages(&endpoint, url, &Scope::Catalog, "the catalog", |page: Catalog| page.repositories)
    }

    /// What a registry finds for some words, by docker's search of old, which
    /// the default registry and few others offer.
    pub fn search(&self, registry: &str, words: &str, most: u32) -> Result<Vec<SearchResult>> {
        let origin = self.origin(registry)?;
        let mut url = origin.url(&format!("/v1/search?q={}&n={most}", escape(words)));
        if registry == DEFAULT_REGISTRY {
            DEFAULT_SEARCH.clone_into(&mut url.authority);
        }
        let response = self.send(&origin, Request::new(Method::GET, url, Scope::Registry))?;
        if response.status() == 404 {
            return Err(Error::new(Kind::NotFound, format!("the registry {registry} offers no search")));
        }
        let response = found(response, &origin, "the search")?;
        let mut results = read_page::<Results>(response, "search")?.results;
        for result in &mut results {
            result.name = printable(&result.name);
            result.description = printable(&result.description);
        }
        Ok(results)
    }

    fn pages<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        first: Url,
        scope: &Scope,
        object: &str,
        names: impl Fn(T) -> Option<Vec<String>>,
    ) -> Result<Vec<String>> {
        let mut listed = Vec::new();
        let mut url = first;
        for _ in 0..PAGE_LIMIT {
            let request = Request::new(Method::GET, url.clone(), scope.clone());
            let response = found(self.send(endpoint, request)?, endpoint, object)?;
            let next = header_text(&response, header::LINK).and_then(next_page).map(|link| url.join(link));
            let page = names(read_page(response, object)?).unwrap_or_default();
            let is_last = page.is_empty();
            listed.extend(page);
            if listed.len() > NAME_LIMIT {
                break;
            }
            match next.transpose()? {
                Some(next) if !is_last && next != url => url = next,
                _ => return Ok(listed),
            }
        }
        Err(Error::new(
            Kind::Limit,
            format!("{object} has over {NAME_LIMIT} names, or lists them without end"),
        ))
    }
}

fn read_page<T: DeserializeOwned>(response: ureq::http::Response<ureq::Body>, object: &str) -> Result<T> {
    let mut bytes = Vec::new();
    response.into_body().into_reader().take(DOCUMENT_LIMIT).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(Kind::Invalid, format!("the list of {object} is malformed: {error}")))
}

/// The address in `<address>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim();
            parameter.eq_ignore_ascii_case("rel=next") || parameter.eq_ignore_ascii_case("rel=\"next\"")
        });
        is_next.then_some(address)
    })
}
