//! A blob as it comes over the network, resumed where a connection broke.

use std::fmt;
use std::io::{self, Read};

use ureq::BodyReader;
use ureq::http::{Method, header};

use super::Client;
use super::endpoint::Endpoint;
use super::pull::found;
use super::token::Scope;
use super::transport::{Request, header_text};
use crate::document::Descriptor;
use crate::error::{Error, Kind, Result};
use crate::reference::Repository;

/// A connection that gave this many bytes was worth making: what failed before
/// it counts no more.
const WORTHWHILE: u64 = 64 << 10;

/// Reads a blob. Ends after exactly as many bytes as its descriptor says, or
/// with an error.
pub struct Download {
    client: Client,
    sources: Vec<Endpoint>,
    repository: Repository,
    blob: Descriptor,
    /// What has been read, from the blob's beginning.
    at: u64,
    body: Option<BodyReader<'static>>,
    /// Connections lost in a row, and where the first of them was.
    lost: u32,
    lost_at: u64,
}

impl Download {
    pub(super) fn open(
        client: &Client,
        repository: &Repository,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Download> {
        if offset > blob.size {
            let message = format!("{} ends at byte {}, before {offset}", blob.digest, blob.size);
            return Err(Error::new(Kind::Invalid, message));
        }
        let mut download = Download {
            client: client.clone(),
            sources: client.sources(repository.registry())?,
            repository: repository.clone(),
            blob: blob.clone(),
            at: offset,
            body: None,
            lost: 0,
            lost_at: offset,
        };
        if download.at < blob.size {
            download.connect()?;
        }
        Ok(download)
    }

    /// Where the next byte lies in the blob.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Asks for the rest, one server after the other; those that fail are not
    /// asked again, but for the last.
    fn connect(&mut self) -> Result<()> {
        loop {
            let Some(endpoint) = self.sources.first() else {
                return Err(Error::new(Kind::NotFound, format!("nobody serves {}", self.blob.digest)));
            };
            match self.ask(endpoint) {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(error) if self.sources.len() == 1 => return Err(error),
                Err(_) => {
                    self.sources.remove(0);
                }
            }
        }
    }

    fn ask(&self, endpoint: &Endpoint) -> Result<BodyReader<'static>> {
        let digest = self.blob.digest;
        let url = endpoint.url(&format!("/v2/{}/blobs/{digest}", self.repository.path()));
        let mut request = Request::new(Method::GET, url, Scope::Pull(self.repository.clone()));
        if self.at > 0 {
            request.headers.push(("range", format!("bytes={}-", self.at)));
        }
        let response = self.client.send(endpoint, request)?;
        let response = found(response, endpoint, format_args!("the blob {digest} of {}", self.repository))?;
        let len = response.body().content_length();
        let (start, end) = match response.status().as_u16() {
            206 => match header_text(&response, header::CONTENT_RANGE).and_then(content_range) {
                Some((start, total)) => (start, total),
                None => (self.at, len.map(|len| self.at + len)),
            },
            _ => (0, len),
        };
        if let Some(end) = end.filter(|end| *end != self.blob.size) {
            let message =
                format!("{} has {end} bytes instead of {} at {}", digest, self.blob.size, endpoint.name);
            return Err(Error::new(Kind::Corrupt, message));
        }
        let mut body = response.into_body().into_reader();
        if start > self.at {
            let message =
                format!("{} sends byte {start} of {digest} where {} was asked for", endpoint.name, self.at);
            return Err(Error::new(Kind::Invalid, message));
        }
        // From a server that cannot begin in the middle.
        let skip = self.at - start;
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == skip => Ok(body),
            _ => Err(Error::new(Kind::System, format!("{} closed the connection", endpoint.name))),
        }
    }

    /// Connects again after a pause, as long as it is worth it.
    fn resume(&mut self, reason: Error) -> Result<()> {
        self.body = None;
        if self.at - self.lost_at >= WORTHWHILE {
            self.lost = 0;
        }
        self.lost_at = self.at;
        let mut reason = reason;
        while self.lost < self.client.0.config.retries {
            std::thread::sleep(self.client.pause(self.lost));
            self.lost += 1;
            match self.connect() {
                Ok(()) => return Ok(()),
                // The network's failures pass; a refusal does not.
                Err(error) if error.kind() == Kind::System => reason = error,
                Err(error) => return Err(error),
            }
        }
        Err(reason
            .context(format!("{} broke off at byte {} of {}", self.blob.digest, self.at, self.blob.size)))
    }

    /// The server says what is left to say; a byte more than was promised is an error.
    fn finish(&mut self) -> Result<()> {
        let Some(mut body) = self.body.take() else { return Ok(()) };
        // All that was promised is here: how the connection ends is no matter.
        match body.read(&mut [0]) {
            Ok(1..) => {
                let message = format!("{} is longer than {} bytes", self.blob.digest, self.blob.size);
                Err(Error::new(Kind::Corrupt, message))
            }
            Ok(0) | Err(_) => Ok(()),
        }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.size - self.at;
        if left == 0 || buffer.is_empty() {
            if left == 0 {
                self.finish()?;
            }
            return Ok(0);
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        loop {
            let reason = match self.body.as_mut().map(|body| body.read(buffer)) {
                Some(Ok(read)) if read > 0 => {
                    self.at += read as u64;
                    return Ok(read);
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Some(Err(error)) => Error::new(Kind::System, Error::from(error).message()),
                Some(Ok(_)) | None => Error::new(Kind::System, "the connection was closed"),
            };
            self.resume(reason)?;
        }
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Download({} at {} of {})", self.blob.digest, self.at, self.blob.size)
    }
}

/// The first byte and the whole length of `bytes 3-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}
