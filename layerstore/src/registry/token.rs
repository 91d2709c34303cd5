//! Proving who we are: passwords, and tokens of a token server
//! (distribution.github.io/distribution/spec/auth/token).
//!
//! What a server asked for is remembered, so that only the first request to it
//! is refused; tokens are kept until shortly before they expire.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::Method;

use super::challenge::Challenge;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::tls::Trust;
use super::transport::unreachable;
use super::url::{Scheme, Url, escape};
use super::{Client, lock};
use crate::credentials::{Credential, Secret};
use crate::error::{Error, Kind, Result};
use crate::reference::Repository;

/// What a token lives for if its server does not say.
const DEFAULT_LIFE: u64 = 60;
/// How long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(10);
/// Longer answers of a token server are none.
const ANSWER_LIMIT: u64 = 1 << 20;

/// What a request needs to be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// To be answered at all.
    Registry,
    /// To list the repositories.
    Catalog,
    /// To read one.
    Pull(Repository),
    /// To write one, and to take blobs from another.
    Push(Repository, Option<Repository>),
}

impl Scope {
    fn words(&self) -> Vec<String> {
        let pull = |repository: &Repository| format!("repository:{}:pull", repository.path());
        match self {
            Scope::Registry => Vec::new(),
            Scope::Catalog => vec!["registry:catalog:*".to_owned()],
            Scope::Pull(repository) => vec![pull(repository)],
            Scope::Push(repository, from) => {
                [format!("{},push", pull(repository))].into_iter().chain(from.as_ref().map(pull)).collect()
            }
        }
    }

    fn repository(&self) -> Option<&Repository> {
        match self {
            Scope::Registry | Scope::Catalog => None,
            Scope::Pull(repository) | Scope::Push(repository, _) => Some(repository),
        }
    }
}

/// What servers asked for and what was had for it.
#[derive(Default)]
pub(super) struct Tokens {
    challenges: Mutex<HashMap<String, Challenge>>,
    tokens: Mutex<HashMap<(String, String), Token>>,
    credentials: Mutex<HashMap<String, Option<Credential>>>,
}

#[derive(Clone)]
struct Token {
    value: Secret,
    end: Instant,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Client {
    /// What is known for the requests of a scope at a server.
    pub(super) fn credential(&self, endpoint: &Endpoint, scope: &Scope) -> Result<Option<Credential>> {
        let path = scope.repository().map(Repository::path).unwrap_or_default();
        let key = format!("{}/{path}", endpoint.name);
        if let Some(known) = lock(&self.0.tokens.credentials).get(&key) {
            return Ok(known.clone());
        }
        let files = &self.0.config.credentials;
        let found = match scope.repository().filter(|repository| repository.registry() == endpoint.name) {
            Some(repository) => files.find(repository)?,
            None => files.find_registry(&endpoint.name)?,
        };
        lock(&self.0.tokens.credentials).insert(key, found.clone());
        Ok(found)
    }

    /// The `Authorization` for a request, if its server is known to want one.
    pub(super) fn authorization(&self, endpoint: &Endpoint, scope: &Scope) -> Result<Option<Secret>> {
        let base = endpoint.base.to_string();
        let challenge = lock(&self.0.tokens.challenges).get(&base).cloned();
        let Some(challenge) = challenge else { return Ok(None) };
        let credential = self.credential(endpoint, scope)?;
        let Challenge::Bearer { .. } = challenge else {
            return Ok(basic(credential.as_ref()));
        };
        let key = (base, scope.words().join(" "));
        let known = lock(&self.0.tokens.tokens).get(&key).filter(|token| Instant::now() < token.end).cloned();
        let token = match known {
            Some(token) => token,
            None => {
                let token = self.fetch_token(endpoint, &challenge, scope, credential.as_ref())?;
                lock(&self.0.tokens.tokens).insert(key, token.clone());
                token
            }
        };
        Ok(Some(bearer(&token)))
    }

    /// Remembers what a server asked for when it refused what it was shown.
    pub(super) fn challenged(&self, endpoint: &Endpoint, scope: &Scope, challenge: Challenge) {
        let base = endpoint.base.to_string();
        lock(&self.0.tokens.tokens).remove(&(base.clone(), scope.words().join(" ")));
        lock(&self.0.tokens.challenges).insert(base, challenge);
    }

    /// The `Authorization` for a credential that is being tried; nothing is kept.
    pub(super) fn try_authorization(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<Option<Secret>> {
        match challenge {
            Challenge::Basic => Ok(basic(credential)),
            Challenge::Bearer { .. } => {
                let token = self.fetch_token(endpoint, challenge, &Scope::Registry, credential)?;
                Ok(Some(bearer(&token)))
            }
        }
    }

    fn fetch_token(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        scope: &Scope,
        credential: Option<&Credential>,
    ) -> Result<Token> {
        let Challenge::Bearer { realm, service, scope: asked } = challenge else {
            return Err(Error::new(Kind::Invalid, "a token is wanted where passwords are used"));
        };
        let realm = endpoint.base.join(realm)?;
        if realm.scheme == Scheme::Http && endpoint.base.scheme == Scheme::Https {
            let message = format!("{} names a token server without TLS: {realm}", endpoint.name);
            return Err(Error::new(Kind::Denied, message));
        }
        let trust = if realm.authority == endpoint.base.authority { endpoint.trust } else { Trust::Verified };
        let mut scopes = scope.words();
        // Some servers want to be asked in their own words.
        let foreign = asked.iter().flat_map(|scopes| scopes.split_whitespace().map(str::to_owned));
        scopes.extend(foreign.filter(|_| *scope != Scope::Registry).filter(|asked| !covers(scope, asked)));
        let response = match credential {
            Some(Credential::IdentityToken(token)) => {
                let mut form = format!(
                    "grant_type=refresh_token&client_id=runion&refresh_token={}",
                    escape(token.reveal())
                );
                let service = service.iter().map(|service| format!("&service={}", escape(service)));
                form.extend(service);
                if !scopes.is_empty() {
                    form.push_str(&format!("&scope={}", escape(&scopes.join(" "))));
                }
                let headers = [("content-type", "application/x-www-form-urlencoded".to_owned())];
                self.exchange_patiently(trust, &Method::POST, &realm, &headers, form.as_bytes())
            }
            _ => {
                let mut url: Url = realm.clone();
                if let Some(service) = service {
                    url = url.with_query("service", service);
                }
                for scope in &scopes {
                    url = url.with_query("scope", scope);
                }
                let mut headers = Vec::new();
                if let Some(Credential::Password { user, .. }) = credential {
                    url = url.with_query("account", user);
                    headers
                        .extend(basic(credential).map(|value| ("authorization", value.reveal().to_owned())));
                }
                self.exchange_patiently(trust, &Method::GET, &url, &headers, &[])
            }
        };
        let response = response.map_err(|error| unreachable(&realm, &error))?;
        match response.status().as_u16() {
            200 => {}
            401 if credential.is_some() => {
                return Err(
                    super::endpoint::refused(&endpoint.name).hint(format!("runion login {}", endpoint.name))
                );
            }
            401 => return Err(super::transport::needs_login(&endpoint.name)),
            _ => {
                let action = format!("cannot get a token for {} from {}", endpoint.name, realm.authority);
                return Err(Failure::read(response).error(&action));
            }
        }
        let mut bytes = Vec::new();
        response.into_body().into_reader().take(ANSWER_LIMIT).read_to_end(&mut bytes)?;
        read_token(&bytes).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("the token server {} gives no token", realm.authority))
        })
    }
}

fn read_token(bytes: &[u8]) -> Option<Token> {
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let value = answer.token.filter(|token| !token.is_empty()).or(answer.access_token)?;
    let sendable = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    let life = Duration::from_secs(answer.expires_in.unwrap_or(DEFAULT_LIFE).clamp(1, 1 << 20));
    let end = Instant::now() + life.saturating_sub(MARGIN);
    sendable.then(|| Token { value: Secret::new(value), end })
}

/// Whether a scope already says what a server asked for.
fn covers(scope: &Scope, asked: &str) -> bool {
    let target = |words: &str| words.rsplit_once(':').map(|(target, _)| target.to_owned());
    scope.words().iter().any(|own| target(own) == target(asked))
}

fn basic(credential: Option<&Credential>) -> Option<Secret> {
    credential?.basic().map(|pair| Secret::new(format!("Basic {pair}")))
}

fn bearer(token: &Token) -> Secret {
    Secret::new(format!("Bearer {}", token.value.reveal()))
}
