//! One request and its answer: authorisation, redirects, repetition.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use ureq::http::{Method, Request as HttpRequest, Response, header};
use ureq::{Body, SendBody};

use super::Client;
use super::challenge::Challenge;
use super::endpoint::Endpoint;
use super::failure::{is_passing, retry_after};
use super::tls::Trust;
use super::token::Scope;
use super::url::{Scheme, Url};
use crate::credentials::Credential;
use crate::error::{Error, Kind, Result};

/// How many redirects in a row are followed.
const REDIRECTS: u32 = 5;
/// The longest pause between two requests; who wants more gets an error.
const LONGEST_PAUSE: Duration = Duration::from_secs(90);

/// A header's name and value.
pub(super) type Header = (&'static str, String);

/// What a request carries.
pub(super) enum Payload<'a> {
    /// Nothing.
    Empty,
    /// Bytes, which can be sent again.
    Bytes(&'a [u8]),
    /// As many bytes as said, once.
    Stream { len: u64, from: &'a mut dyn Read },
}

impl Payload<'_> {
    fn is_repeatable(&self) -> bool {
        !matches!(self, Payload::Stream { .. })
    }
}

/// A request to a server that speaks for a registry.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) scope: Scope,
    pub(super) headers: Vec<Header>,
    pub(super) payload: Payload<'a>,
}

impl<'a> Request<'a> {
    /// One that carries nothing.
    pub(super) fn new(method: Method, url: Url, scope: Scope) -> Request<'a> {
        Request { method, url, scope, headers: Vec::new(), payload: Payload::Empty }
    }
}

impl Client {
    /// The last answer to a request: repeated while that may help.
    pub(super) fn send(&self, endpoint: &Endpoint, mut request: Request<'_>) -> Result<Response<Body>> {
        let mut attempt = 0;
        loop {
            let answer = self.send_authorized(endpoint, &mut request);
            let may_repeat = request.payload.is_repeatable() && attempt < self.0.config.retries;
            let pause = match &answer {
                Ok(response) if may_repeat && is_passing(response.status().as_u16()) => {
                    retry_after(response).unwrap_or(self.pause(attempt))
                }
                Err(Stop::Network(_, error)) if may_repeat && is_transient(error) => self.pause(attempt),
                _ => return answer.map_err(Stop::into_error),
            };
            if pause > LONGEST_PAUSE {
                return answer.map_err(Stop::into_error);
            }
            std::thread::sleep(pause);
            attempt += 1;
        }
    }

    /// How long to wait before a repetition.
    pub(super) fn pause(&self, attempt: u32) -> Duration {
        self.0.config.backoff.saturating_mul(1 << attempt.min(10)).min(LONGEST_PAUSE)
    }

    /// Shows what is known to be wanted; if that is refused, what is asked for.
    fn send_authorized(
        &self,
        endpoint: &Endpoint,
        request: &mut Request<'_>,
    ) -> Result<Response<Body>, Stop> {
        let shown = self.authorization(endpoint, &request.scope)?;
        let response = self.follow(endpoint, request, shown.as_ref().map(|secret| secret.reveal()))?;
        if response.status() != 401 || !request.payload.is_repeatable() {
            return Ok(response);
        }
        let Some(challenge) = challenge_of(&response) else { return Ok(response) };
        self.challenged(endpoint, &request.scope, challenge);
        match self.authorization(endpoint, &request.scope)? {
            Some(better) if Some(&better) != shown.as_ref() => {
                self.follow(endpoint, request, Some(better.reveal()))
            }
            _ => Ok(response),
        }
    }

    /// A request to `/v2/` as someone.
    pub(super) fn send_as(
        &self,
        endpoint: &Endpoint,
        credential: Option<&Credential>,
    ) -> Result<Response<Body>> {
        let mut request = Request::new(Method::GET, endpoint.url("/v2/"), Scope::Registry);
        let response = self.follow(endpoint, &mut request, None).map_err(Stop::into_error)?;
        let challenge = challenge_of(&response).filter(|_| response.status() == 401);
        let Some(challenge) = challenge else { return Ok(response) };
        match self.try_authorization(endpoint, &challenge, credential)? {
            Some(value) => {
                self.follow(endpoint, &mut request, Some(value.reveal())).map_err(Stop::into_error)
            }
            None => Ok(response),
        }
    }

    /// The answer at the end of redirects. The authorisation goes to the
    /// endpoint's own server only.
    fn follow(
        &self,
        endpoint: &Endpoint,
        request: &mut Request<'_>,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, Stop> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS {
            let is_home = url.is_same_server(&endpoint.base);
            let trust = if is_home { endpoint.trust } else { Trust::Verified };
            let mut headers = request.headers.clone();
            headers
                .extend(authorization.filter(|_| is_home).map(|value| ("authorization", value.to_owned())));
            let response = self
                .exchange(trust, &request.method, &url, &headers, &mut request.payload)
                .map_err(|error| Stop::Network(url.clone(), Box::new(error)))?;
            let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirects || !matches!(request.method, Method::GET | Method::HEAD) {
                return Ok(response);
            }
            let Some(location) = header_text(&response, header::LOCATION) else { return Ok(response) };
            let next = url.join(location)?;
            if endpoint.base.scheme == Scheme::Https && next.scheme == Scheme::Http {
                let message = format!("{} leads to {}, without TLS", endpoint.name, next.authority);
                return Err(Error::new(Kind::Denied, message).into());
            }
            url = next;
        }
        let message = format!("{} leads from one place to another without end", endpoint.name);
        Err(Error::new(Kind::Limit, message).into())
    }

    /// One request, one answer.
    pub(super) fn exchange(
        &self,
        trust: Trust,
        method: &Method,
        url: &Url,
        headers: &[Header],
        payload: &mut Payload<'_>,
    ) -> Result<Response<Body>, ureq::Error> {
        let agent = self.0.agents.of(&url.authority, trust).map_err(std::io::Error::from)?;
        let mut request = HttpRequest::builder().method(method).uri(url.to_string());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        match payload {
            Payload::Empty if matches!(*method, Method::POST | Method::PUT) => {
                agent.run(request.body(&[][..])?)
            }
            Payload::Empty => agent.run(request.body(())?),
            Payload::Bytes(bytes) => agent.run(request.body(*bytes)?),
            Payload::Stream { len, from } => {
                let request = request.header(header::CONTENT_LENGTH, *len);
                agent.run(request.body(SendBody::from_reader(*from))?)
            }
        }
    }

    /// The same, repeated while that may help; not to be used with credentials
    /// for several servers: redirects are not followed.
    pub(super) fn exchange_patiently(
        &self,
        trust: Trust,
        method: &Method,
        url: &Url,
        headers: &[Header],
        bytes: &[u8],
    ) -> Result<Response<Body>, ureq::Error> {
        let mut attempt = 0;
        loop {
            let mut payload = if bytes.is_empty() { Payload::Empty } else { Payload::Bytes(bytes) };
            let answer = self.exchange(trust, method, url, headers, &mut payload);
            let pause = match &answer {
                _ if attempt >= self.0.config.retries => return answer,
                Ok(response) if is_passing(response.status().as_u16()) => {
                    retry_after(response).unwrap_or(self.pause(attempt))
                }
                Err(error) if is_transient(error) => self.pause(attempt),
                _ => return answer,
            };
            if pause > LONGEST_PAUSE {
                return answer;
            }
            std::thread::sleep(pause);
            attempt += 1;
        }
    }
}

/// Why a request has no answer.
enum Stop {
    Network(Url, Box<ureq::Error>),
    Ours(Error),
}

impl Stop {
    fn into_error(self) -> Error {
        match self {
            Stop::Network(url, error) => unreachable(&url, &error),
            Stop::Ours(error) => error,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Ours(error)
    }
}

fn challenge_of(response: &Response<Body>) -> Option<Challenge> {
    let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
    Challenge::of(headers.iter().filter_map(|value| value.to_str().ok()))
}

/// A header as text.
pub(super) fn header_text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// Whether the network may be better the next time. A server that is not
/// there, or whom we do not trust, will not be.
fn is_transient(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::Other
        ),
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

/// What the network says, of a server.
pub(super) fn unreachable(url: &Url, error: &ureq::Error) -> Error {
    let host = &url.authority;
    if let ureq::Error::Io(inner) = error {
        // Ours, on its way through theirs.
        if let Some(ours) = inner.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return ours.clone();
        }
    }
    let words = match error {
        ureq::Error::Io(inner) => {
            Error::from(std::io::Error::new(inner.kind(), inner.to_string())).message().to_owned()
        }
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        other => other.to_string(),
    };
    let words = match words.contains("CaUsedAsEndEntity") {
        true => "its certificate is vouched for by itself alone".to_owned(),
        false => super::failure::printable(&words),
    };
    let error = Error::new(Kind::System, format!("cannot reach {host}: {words}"));
    if words.contains("certificate") {
        return error.hint(format!(
            "put the certificate of who vouches for it into /etc/containers/certs.d/{host}/ca.crt"
        ));
    }
    error
}

/// A registry that wants to know who we are.
pub(super) fn needs_login(registry: &str) -> Error {
    Error::new(Kind::Denied, format!("{registry} asks for a login")).hint(format!("runion login {registry}"))
}
