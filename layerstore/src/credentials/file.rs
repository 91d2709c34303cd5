//! One auth file. What we do not know in it is kept.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::{Credential, Secret, helper};
use crate::error::{Context, Error, Kind, Result};
use crate::reference::{DEFAULT_REGISTRY, parse_registry};

/// Docker's own name for its registry in these files, and to helpers.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// Longer files are none of ours.
const LIMIT: u64 = 1 << 20;

pub(super) struct AuthFile {
    path: PathBuf,
    content: Map<String, Value>,
}

impl AuthFile {
    /// With nothing in it, and not on disk yet.
    pub(super) fn new(path: PathBuf) -> AuthFile {
        AuthFile { path, content: Map::new() }
    }

    /// The file, if it is there and may be read.
    pub(super) fn read(path: &Path) -> Result<Option<AuthFile>> {
        let reading = || format!("cannot read {}", path.display());
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if is_absent(error.kind()) => return Ok(None),
            Err(error) => return Err(Error::from(error).context(reading())),
        };
        let mut bytes = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut bytes).context(reading)?;
        if bytes.len() as u64 > LIMIT {
            return Err(Error::new(Kind::Limit, format!("{} is larger than 1 MiB", path.display())));
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(Some(AuthFile::new(path.to_owned())));
        }
        // The parser's own words could quote a password.
        let content = serde_json::from_slice(&bytes).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Error::new(Kind::Invalid, format!("{} is malformed at {place}", path.display()))
        })?;
        Ok(Some(AuthFile { path: path.to_owned(), content }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// For a path in a registry, or for the registry as a whole.
    pub(super) fn find(&self, registry: &str, path: Option<&str>) -> Result<Option<Credential>> {
        if let Some(name) = self.helper(registry) {
            if let Some(found) = helper::get(name, helper_key(registry))? {
                return Ok(Some(found));
            }
        }
        let Some(auths) = self.auths() else { return Ok(None) };
        let mut key = path.map_or(registry.to_owned(), |path| format!("{registry}/{path}"));
        loop {
            if let Some(found) = auths.get(&key).map(|entry| self.credential(&key, entry)) {
                return found;
            }
            match key.rfind('/') {
                Some(end) => key.truncate(end),
                None => break,
            }
        }
        let other = auths.iter().find(|(key, _)| is_for(key, registry));
        other.map_or(Ok(None), |(key, entry)| self.credential(key, entry))
    }

    /// Whether it has anything for the registry as a whole.
    pub(super) fn knows(&self, registry: &str) -> bool {
        self.of_table("credHelpers", registry).is_some()
            || self.auths().is_some_and(|auths| auths.keys().any(|key| is_for(key, registry)))
    }

    /// Keeps a credential: with a helper if one is set, else in the file.
    pub(super) fn store(&mut self, registry: &str, credential: &Credential) -> Result<()> {
        let mut entry = Map::new();
        match (self.helper(registry), credential) {
            (Some(name), _) => helper::store(name, helper_key(registry), credential)?,
            (None, Credential::Password { .. }) => {
                entry.insert("auth".to_owned(), credential.basic().into());
            }
            (None, Credential::IdentityToken(token)) => {
                entry.insert("identitytoken".to_owned(), token.reveal().into());
            }
        }
        self.remove(registry);
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        let Some(auths) = auths.as_object_mut() else {
            return Err(Error::new(
                Kind::Invalid,
                format!("\"auths\" in {} is no object", self.path.display()),
            ));
        };
        auths.insert(helper_key(registry).to_owned(), entry.into());
        self.write()
    }

    /// Forgets the registry; whether it was known.
    pub(super) fn erase(&mut self, registry: &str) -> Result<bool> {
        let name = self.helper(registry).map(str::to_owned);
        let known = self.remove(registry);
        if let Some(name) = name {
            let erased = helper::erase(&name, helper_key(registry))?;
            return if known { self.write().map(|()| true) } else { Ok(erased) };
        }
        if known {
            self.write()?;
        }
        Ok(known)
    }

    fn remove(&mut self, registry: &str) -> bool {
        let Some(auths) = self.content.get_mut("auths").and_then(Value::as_object_mut) else {
            return false;
        };
        let before = auths.len();
        auths.retain(|key, _| !is_for(key, registry));
        auths.len() < before
    }

    fn auths(&self) -> Option<&Map<String, Value>> {
        self.content.get("auths")?.as_object()
    }

    /// The program that keeps this registry's passwords.
    fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.of_table("credHelpers", registry);
        own.or_else(|| self.content.get("credsStore")).and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    fn of_table(&self, table: &str, registry: &str) -> Option<&Value> {
        let table = self.content.get(table)?.as_object()?;
        table.iter().find(|(key, _)| is_for(key, registry)).map(|(_, value)| value)
    }

    /// An entry's contents; an empty one says that a helper keeps them.
    fn credential(&self, key: &str, entry: &Value) -> Result<Option<Credential>> {
        let text = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credential::IdentityToken(Secret::new(token))));
        }
        let Some(auth) = text("auth") else {
            return Ok(text("username").zip(text("password")).map(|(u, p)| Credential::password(u, p)));
        };
        let decoded = BASE64_STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let Some((user, password)) = pair else {
            let message = format!("the login for {key} in {} is malformed", self.path.display());
            return Err(Error::new(Kind::Invalid, message).hint("log in again"));
        };
        // Docker ends passwords with NUL on some systems.
        Ok(Some(Credential::password(user, password.trim_end_matches('\0'))))
    }

    /// Replaces the file at once, readable by its owner alone; a symbolic
    /// link's target is replaced and the link kept.
    fn write(&self) -> Result<()> {
        let writing = || format!("cannot write {}", self.path.display());
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).context(writing)?;
        let mut bytes = serde_json::to_vec_pretty(&self.content)
            .map_err(|_| Error::new(Kind::Invalid, "the auth file cannot be written as JSON"))?;
        bytes.push(b'\n');
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = dir.join(format!(".{name}.{}", std::process::id()));
        let written = replace(&temporary, &path, &bytes);
        if written.is_err() && temporary.exists() {
            std::fs::remove_file(&temporary).context(writing)?;
        }
        written.context(writing)
    }
}

fn replace(temporary: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

/// A file that is not there, or another user's session's.
fn is_absent(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied)
}

/// Whether a key names the registry as a whole: its host, or a URL of it.
fn is_for(key: &str, registry: &str) -> bool {
    let is_path =
        !key.contains("://") && key.contains('/') && !key.ends_with("/v1/") && !key.ends_with("/v2/");
    !is_path && parse_registry(key).is_ok_and(|host| host == registry)
}

fn helper_key(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { DOCKER_KEY } else { registry }
}
