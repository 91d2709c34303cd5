//! Sending blobs and manifests.

use std::io::Read;

use ureq::Body;
use ureq::http::{Method, Response, header};

use super::Client;
use super::endpoint::Endpoint;
use super::failure::{Failure, is_passing};
use super::pull::CONTENT_DIGEST;
use super::token::Scope;
use super::transport::{Payload, Request, header_text};
use super::url::Url;
use crate::digest::Digest;
use crate::document::Descriptor;
use crate::error::{Error, Kind, Result};
use crate::reference::{Reference, Repository};

/// From this length on a blob is sent in a request that can be gone on with, and
/// named in another.
const WORTH_RESUMING: u64 = 1 << 20;

/// How a blob came to be in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Sent,
}

impl Client {
    /// Whether a registry has a blob in a repository.
    pub fn has_blob(&self, repository: &Repository, digest: Digest) -> Result<bool> {
        let endpoint = self.origin(repository.registry())?;
        let url = endpoint.url(&format!("/v2/{}/blobs/{digest}", repository.path()));
        let scope = Scope::Push(repository.clone(), None);
        let response = self.send(&endpoint, Request::new(Method::HEAD, url, scope))?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(refusal(response, &endpoint, &format!("cannot ask for {digest} in {repository}"))),
        }
    }

    /// Brings a blob into a repository: by nothing if it is there, by word of
    /// mouth if it is in `other` of the same registry, else by sending it.
    ///
    /// `open` gives its bytes from an offset on; it is called again if the
    /// connection breaks. What a registry says it has by then is not sent again.
    pub fn push_blob<R: Read>(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        other: Option<&Repository>,
        mut open: impl FnMut(u64) -> Result<R>,
    ) -> Result<Pushed> {
        if self.has_blob(repository, blob.digest)? {
            return Ok(Pushed::Present);
        }
        let endpoint = self.origin(repository.registry())?;
        let other = other.filter(|other| other.registry() == repository.registry() && *other != repository);
        let sending = Sending { client: self, endpoint: &endpoint, repository, blob };
        let (mut session, mut at) = match self.start_upload(&endpoint, repository, blob.digest, other)? {
            Upload::Mounted => return Ok(Pushed::Mounted),
            Upload::At(url) => (url, 0),
        };
        let mut attempt = 0;
        loop {
            let from = Exactly { from: open(at)?, left: blob.size - at, blob };
            let error = match sending.send(&session, at, from) {
                Ok(()) => return Ok(Pushed::Sent),
                Err(Unsent::Refused(error)) => return Err(error),
                Err(Unsent::Lost(error)) => error,
            };
            if attempt >= self.0.config.retries {
                return Err(error);
            }
            std::thread::sleep(self.pause(attempt));
            attempt += 1;
            match sending.resume(&session)? {
                Some((url, has)) => {
                    // A connection that got on was worth making.
                    attempt = if has > at { 0 } else { attempt };
                    (session, at) = (url, has);
                }
                // It took all of it, and only its answer was lost.
                None if self.has_blob(repository, blob.digest)? => return Ok(Pushed::Sent),
                None => match self.start_upload(&endpoint, repository, blob.digest, None)? {
                    Upload::Mounted => return Ok(Pushed::Mounted),
                    Upload::At(url) => (session, at) = (url, 0),
                },
            }
        }
    }

    /// Asks a registry to take a blob from another of its repositories; whether it did.
    pub fn mount_blob(&self, repository: &Repository, digest: Digest, other: &Repository) -> Result<bool> {
        let endpoint = self.origin(repository.registry())?;
        match self.start_upload(&endpoint, repository, digest, Some(other))? {
            Upload::Mounted => Ok(true),
            Upload::At(_) => Ok(false),
        }
    }

    fn start_upload(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
        digest: Digest,
        other: Option<&Repository>,
    ) -> Result<Upload> {
        let mut url = endpoint.url(&format!("/v2/{}/blobs/uploads/", repository.path()));
        if let Some(other) = other {
            url = url.with_query("mount", &digest.to_string()).with_query("from", other.path());
        }
        let scope = Scope::Push(repository.clone(), other.cloned());
        let response = self.send(endpoint, Request::new(Method::POST, url.clone(), scope))?;
        match response.status().as_u16() {
            201 if other.is_some() => Ok(Upload::Mounted),
            202 => match header_text(&response, header::LOCATION) {
                Some(location) => Ok(Upload::At(url.join(location)?)),
                None => {
                    Err(Error::new(Kind::Invalid, format!("{} does not say where to send to", endpoint.name)))
                }
            },
            _ => Err(refusal(response, endpoint, &format!("cannot send to {repository}"))),
        }
    }

    /// Puts a manifest or index under a reference's tag, or its digest if it
    /// has no tag. Everything it refers to has to be there.
    pub fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        let repository = reference.repository();
        let digest = Digest::of(bytes);
        if let Some(wrong) = reference.digest().filter(|named| *named != digest) {
            let message = format!("a manifest that is {digest} cannot be put as {wrong}");
            return Err(Error::new(Kind::Invalid, message));
        }
        let endpoint = self.origin(repository.registry())?;
        let name = reference.tag().map_or(digest.to_string(), str::to_owned);
        let url = endpoint.url(&format!("/v2/{}/manifests/{name}", repository.path()));
        let mut request = Request::new(Method::PUT, url, Scope::Push(repository.clone(), None));
        request.headers.push(("content-type", media_type.to_owned()));
        request.payload = Payload::Bytes(bytes);
        let response = self.send(&endpoint, request)?;
        if !response.status().is_success() {
            return Err(refusal(response, &endpoint, &format!("cannot put {reference}")));
        }
        let said = header_text(&response, CONTENT_DIGEST).filter(|said| said.starts_with("sha256:"));
        match said {
            Some(said) if said != digest.to_string() => {
                let message = format!("{} keeps {reference} as {said:?} and not as {digest}", endpoint.name);
                Err(Error::new(Kind::Corrupt, message))
            }
            _ => Ok(digest),
        }
    }
}

/// A blob on its way.
struct Sending<'s> {
    client: &'s Client,
    endpoint: &'s Endpoint,
    repository: &'s Repository,
    blob: &'s Descriptor,
}

/// Why a blob is not there.
enum Unsent {
    /// It may be, the next time.
    Lost(Error),
    /// It will not be.
    Refused(Error),
}

impl Sending<'_> {
    /// Sends what is left: short blobs in the request that names them; long ones
    /// in one of their own before it, of which registries keep what they got.
    fn send<R: Read>(&self, session: &Url, at: u64, mut from: Exactly<'_, R>) -> Result<(), Unsent> {
        let mut session = session.clone();
        let name = |session: &Url| session.clone().with_query("digest", &self.blob.digest.to_string());
        let left = from.left;
        if at == 0 && left < WORTH_RESUMING {
            let payload = Payload::Stream { len: left, from: &mut from };
            return self.ask(Method::PUT, name(&session), at, payload, 201).map(drop);
        }
        if left > 0 {
            let payload = Payload::Stream { len: left, from: &mut from };
            let answer = self.ask(Method::PATCH, session.clone(), at, payload, 202)?;
            if let Some(location) = header_text(&answer, header::LOCATION) {
                session = session.join(location).map_err(Unsent::Refused)?;
            }
        }
        self.ask(Method::PUT, name(&session), self.blob.size, Payload::Empty, 201).map(drop)
    }

    fn ask(
        &self,
        method: Method,
        url: Url,
        at: u64,
        payload: Payload<'_>,
        expected: u16,
    ) -> Result<Response<Body>, Unsent> {
        let mut request = Request::new(method, url, self.scope());
        if let Payload::Stream { len, .. } = payload {
            request.headers.push(("content-type", "application/octet-stream".to_owned()));
            if at > 0 {
                request.headers.push(("content-range", format!("{at}-{}", at + len - 1)));
            }
        }
        request.payload = payload;
        let response = match self.client.send(self.endpoint, request) {
            Ok(response) => response,
            Err(error) if error.kind() == Kind::System => return Err(Unsent::Lost(error)),
            Err(error) => return Err(Unsent::Refused(error)),
        };
        let status = response.status().as_u16();
        if status == expected {
            return Ok(response);
        }
        let Sending { repository, blob, .. } = self;
        let error = refusal(response, self.endpoint, &format!("cannot send {} to {repository}", blob.digest));
        // A token may have run out while bytes went by; an upload that broke may be
        // forgotten, or be at another byte than we thought.
        match is_passing(status) || matches!(status, 401 | 404 | 416) {
            true => Err(Unsent::Lost(error)),
            false => Err(Unsent::Refused(error)),
        }
    }

    /// Where an upload goes on, and how many bytes of it the registry has; `None`
    /// if it begins anew. docker-registry before its version 3 forgets an upload
    /// that broke off within a request.
    fn resume(&self, session: &Url) -> Result<Option<(Url, u64)>> {
        let response =
            self.client.send(self.endpoint, Request::new(Method::GET, session.clone(), self.scope()))?;
        if response.status() != 204 {
            return Ok(None);
        }
        let range = header_text(&response, header::RANGE);
        let last = range.and_then(|range| range.rsplit_once('-')?.1.parse::<u64>().ok());
        // `0-0` is said of nothing as well as of one byte.
        let has = last.filter(|last| *last > 0 && *last < self.blob.size).map(|last| last + 1);
        let url = header_text(&response, header::LOCATION).map(|location| session.join(location));
        Ok(has.zip(url.transpose()?).map(|(has, url)| (url, has)))
    }

    fn scope(&self) -> Scope {
        Scope::Push(self.repository.clone(), None)
    }
}

/// Where a blob goes.
enum Upload {
    Mounted,
    At(Url),
}

/// As many bytes as the registry was told, or an error of our own: it would
/// wait for the rest.
struct Exactly<'a, R> {
    from: R,
    left: u64,
    blob: &'a Descriptor,
}

impl<R: Read> Read for Exactly<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.from.read(buffer.get_mut(..most).unwrap_or_default())?;
        if read == 0 && most > 0 {
            let Descriptor { digest, size, .. } = self.blob;
            let message = format!("{digest} ends after {} of {size} bytes", size - self.left);
            return Err(Error::new(Kind::Corrupt, message).into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// An answer that is none, of a request that writes.
fn refusal(response: Response<Body>, endpoint: &Endpoint, action: &str) -> Error {
    let error = Failure::read(response).error(action);
    match error.kind() {
        Kind::Denied => error.hint(format!("runion login {}", endpoint.name)),
        _ => error,
    }
}
