//! Which server speaks for a registry, and how.
//!
//! This machine's registries are spoken to over plain HTTP, or TLS if that is
//! what answers; those the configuration calls insecure over TLS without
//! verification, or plain HTTP; all others over verified TLS, without asking.

use std::collections::HashMap;
use std::sync::Mutex;

use ureq::http::Method;

use super::tls::Trust;
use super::transport::Payload;
use super::url::{Scheme, Url, is_loopback};
use super::{Client, lock};
use crate::credentials::Credential;
use crate::error::{Error, Kind, Result};
use crate::reference::DEFAULT_REGISTRY;

/// The server that answers for the default registry.
const DEFAULT_SERVER: &str = "registry-1.docker.io";

/// A server that speaks for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// What credentials are known by: the registry's name, or the mirror's.
    pub(super) name: String,
    /// Up to where `/v2/` begins, without a `/` at its end.
    pub(super) base: Url,
    pub(super) trust: Trust,
}

impl Endpoint {
    pub(super) fn url(&self, path: &str) -> Url {
        Url { path: format!("{}{path}", self.base.path), ..self.base.clone() }
    }

    fn new(name: &str, scheme: Scheme, authority: &str, prefix: &str, trust: Trust) -> Endpoint {
        Endpoint { name: name.to_owned(), base: Url::new(scheme, authority, prefix), trust }
    }
}

/// Endpoints that are known to answer, by the place they were looked for.
#[derive(Default)]
pub(super) struct Endpoints {
    known: Mutex<HashMap<String, Endpoint>>,
}

impl Client {
    /// The registry's own server.
    pub(super) fn origin(&self, registry: &str) -> Result<Endpoint> {
        let server = if registry == DEFAULT_REGISTRY { DEFAULT_SERVER } else { registry };
        self.endpoint(registry, server)
    }

    /// Where to pull from: mirrors in their order, the registry itself last.
    pub(super) fn sources(&self, registry: &str) -> Result<Vec<Endpoint>> {
        let mirrors = self.0.config.mirrors.get(registry).map(Vec::as_slice).unwrap_or_default();
        // A mirror that is down is what the next one is there for.
        let mut sources: Vec<_> =
            mirrors.iter().filter_map(|mirror| self.endpoint(mirror_name(mirror), mirror).ok()).collect();
        match self.origin(registry) {
            Ok(origin) => sources.push(origin),
            Err(error) if sources.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(sources)
    }

    fn endpoint(&self, name: &str, place: &str) -> Result<Endpoint> {
        if let Some(known) = lock(&self.0.endpoints.known).get(place) {
            return Ok(known.clone());
        }
        let candidates = self.candidates(name, place);
        let found = match &candidates[..] {
            [only] => only.clone(),
            several => self.first_that_answers(several)?,
        };
        lock(&self.0.endpoints.known).insert(place.to_owned(), found.clone());
        Ok(found)
    }

    fn candidates(&self, name: &str, place: &str) -> Vec<Endpoint> {
        let (scheme, rest) = match place.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some((_, rest)) => (Some(Scheme::Https), rest),
            None => (None, place),
        };
        let rest = rest.trim_end_matches('/');
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let insecure = self.0.config.insecure.iter().any(|host| host.eq_ignore_ascii_case(authority));
        let trust = if insecure { Trust::Anyone } else { Trust::Verified };
        let at = |scheme, trust| Endpoint::new(name, scheme, authority, prefix, trust);
        match scheme {
            Some(scheme) => vec![at(scheme, trust)],
            None if self.0.agents.has_own(authority) => vec![at(Scheme::Https, Trust::Verified)],
            None if is_loopback(authority) => vec![at(Scheme::Http, trust), at(Scheme::Https, trust)],
            None if insecure => vec![at(Scheme::Https, trust), at(Scheme::Http, trust)],
            None => vec![at(Scheme::Https, Trust::Verified)],
        }
    }

    fn first_that_answers(&self, candidates: &[Endpoint]) -> Result<Endpoint> {
        let mut last = None;
        for candidate in candidates {
            match self.answers(candidate) {
                Ok(()) => return Ok(candidate.clone()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Kind::System, "no server speaks for the registry")))
    }

    /// Whether there is a web server; it gets no credential.
    fn answers(&self, endpoint: &Endpoint) -> Result<()> {
        let url = endpoint.url("/v2/");
        let response = self
            .exchange(endpoint.trust, &Method::GET, &url, &[], &mut Payload::Empty)
            .map_err(|error| super::transport::unreachable(&url, &error))?;
        if endpoint.base.scheme == Scheme::Http && response.status() == 400 {
            // How servers say that they expect TLS.
            let failure = super::failure::Failure::read(response);
            return Err(Error::new(
                Kind::System,
                format!("{} expects TLS: {}", url.authority, failure.words),
            ));
        }
        Ok(())
    }

    /// Whether the server takes a credential, or none.
    pub(super) fn ping(&self, endpoint: &Endpoint, credential: Option<&Credential>) -> Result<()> {
        let response = self.send_as(endpoint, credential)?;
        match response.status().as_u16() {
            200 => Ok(()),
            401 if credential.is_some() => Err(refused(&endpoint.name)),
            401 => Err(super::transport::needs_login(&endpoint.name)),
            404 => Err(Error::new(Kind::NotFound, format!("there is no registry at {}", endpoint.base))),
            _ => Err(super::failure::Failure::read(response).error(&format!("cannot use {}", endpoint.name))),
        }
    }
}

pub(super) fn refused(registry: &str) -> Error {
    Error::new(Kind::Denied, format!("{registry} does not accept this user name and password"))
}

/// The host of a mirror: what its credentials are known by.
fn mirror_name(mirror: &str) -> &str {
    let rest = mirror.split_once("://").map_or(mirror, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
