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
    /// `open` gives its bytes from the first on; it is called again if the
    /// connection breaks.
    pub fn push_blob<R: Read>(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        other: Option<&Repository>,
        mut open: impl FnMut() -> Result<R>,
    ) -> Result<Pushed> {
        if self.has_blob(repository, blob.digest)? {
            return Ok(Pushed::Present);
        }
        let endpoint = self.origin(repository.registry())?;
        let other = other.filter(|other| other.registry() == repository.registry() && *other != repository);
        let mut session = match self.start_upload(&endpoint, repository, blob.digest, other)? {
            Upload::Mounted => return Ok(Pushed::Mounted),
            Upload::At(url) => url,
        };
        let scope = Scope::Push(repository.clone(), None);
        let mut attempt = 0;
        loop {
            let mut from = Exactly { from: open()?, left: blob.size, blob };
            let url = session.with_query("digest", &blob.digest.to_string());
            let mut request = Request::new(Method::PUT, url, scope.clone());
            request.headers.push(("content-type", "application/octet-stream".to_owned()));
            request.payload = Payload::Stream { len: blob.size, from: &mut from };
            let error = match self.send(&endpoint, request) {
                Ok(response) if response.status() == 201 => return Ok(Pushed::Sent),
                Ok(response) => {
                    // A token may have run out while bytes went by.
                    let passing = is_passing(response.status().as_u16()) || response.status() == 401;
                    let error =
                        refusal(response, &endpoint, &format!("cannot send {} to {repository}", blob.digest));
                    if !passing {
                        return Err(error);
                    }
                    error
                }
                Err(error) if error.kind() != Kind::System => return Err(error),
                Err(error) => error,
            };
            if attempt >= self.0.config.retries {
                return Err(error);
            }
            std::thread::sleep(self.pause(attempt));
            attempt += 1;
            session = match self.start_upload(&endpoint, repository, blob.digest, None)? {
                Upload::Mounted => return Ok(Pushed::Mounted),
                Upload::At(url) => url,
            };
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
