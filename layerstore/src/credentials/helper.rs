//! Programs that keep passwords: `docker-credential-NAME get|store|erase`.
//!
//! They speak JSON on standard input and output
//! (github.com/docker/docker-credential-helpers). What they print is shown to
//! nobody: it can hold a password.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde::{Deserialize, Serialize};

use super::{Credential, Secret};
use crate::error::{Context, Error, Kind, Result};

/// The name under which helpers keep identity tokens.
const TOKEN_USER: &str = "<token>";
/// What they say, on standard output, when they have nothing.
const NOT_FOUND: &[u8] = b"credentials not found in native keychain";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record<'a> {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: std::borrow::Cow<'a, str>,
    secret: std::borrow::Cow<'a, str>,
}

pub(super) fn get(name: &str, server: &str) -> Result<Option<Credential>> {
    let output = run(name, "get", server.as_bytes())?;
    if !output.status.success() {
        return if says_not_found(&output) { Ok(None) } else { Err(failed(name, "get", server)) };
    }
    let record: Record<'_> = serde_json::from_slice(&output.stdout)
        .map_err(|_| Error::new(Kind::Invalid, format!("{} does not answer in JSON", program(name))))?;
    Ok(Some(match &*record.username {
        TOKEN_USER => Credential::IdentityToken(Secret::new(record.secret)),
        user => Credential::password(user, record.secret),
    }))
}

pub(super) fn store(name: &str, server: &str, credential: &Credential) -> Result<()> {
    let (user, secret) = match credential {
        Credential::Password { user, password } => (user.as_str(), password),
        Credential::IdentityToken(token) => (TOKEN_USER, token),
    };
    let record = Record { server: server.to_owned(), username: user.into(), secret: secret.reveal().into() };
    let input = serde_json::to_vec(&record).map_err(|_| failed(name, "store", server))?;
    let output = run(name, "store", &input)?;
    if output.status.success() { Ok(()) } else { Err(failed(name, "store", server)) }
}

/// Whether there was anything to erase.
pub(super) fn erase(name: &str, server: &str) -> Result<bool> {
    let output = run(name, "erase", server.as_bytes())?;
    match output.status.success() {
        true => Ok(true),
        false if says_not_found(&output) => Ok(false),
        false => Err(failed(name, "erase", server)),
    }
}

fn run(name: &str, action: &str, input: &[u8]) -> Result<Output> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(Error::new(Kind::Invalid, format!("{name:?} is no name of a credential helper")));
    }
    let running = || format!("cannot run {}", program(name));
    let mut child = Command::new(program(name))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context(running)?;
    // One that answers without listening closes its end; what it answers counts.
    let heard = match child.stdin.take().map(|mut stdin| stdin.write_all(input)) {
        Some(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    };
    let output = child.wait_with_output().context(running)?;
    heard.context(running)?;
    Ok(output)
}

fn says_not_found(output: &Output) -> bool {
    output.stdout.trim_ascii().starts_with(NOT_FOUND)
}

fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

fn failed(name: &str, action: &str, server: &str) -> Error {
    Error::new(Kind::System, format!("{} failed to {action} the login of {server}", program(name)))
}
