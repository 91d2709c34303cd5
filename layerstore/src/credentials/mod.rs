//! Who we are to a registry: the auth files docker and podman share.
//!
//! Files are read in podman's order (containers-auth.json(5)): one named by
//! `REGISTRY_AUTH_FILE` alone, else the session's, the user's, and docker's;
//! docker's first where `DOCKER_CONFIG` says where it is.
//! Keys of a repository or a namespace come before those of its registry.
//! Programs that keep passwords (`credHelpers`, `credsStore`) are asked first.
//!
//! Passwords appear in no error and no debug output.

mod file;
mod helper;

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::error::Result;
use crate::reference::Repository;
use file::AuthFile;

/// What proves who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password, or a token in its place.
        password: Secret,
    },
    /// A token that a registry's token server takes for others.
    IdentityToken(Secret),
}

impl Credential {
    /// A name and a password.
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Credential {
        Credential::Password { user: user.into(), password: Secret(password.into()) }
    }

    /// `user:password` in base 64, as HTTP and auth files have it.
    pub(crate) fn basic(&self) -> Option<String> {
        match self {
            Credential::Password { user, password } => {
                Some(BASE64_STANDARD.encode(format!("{user}:{}", password.reveal())))
            }
            Credential::IdentityToken(_) => None,
        }
    }
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Not to be shown.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, to be sent to whom it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where credentials are kept.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    files: Vec<PathBuf>,
    login_file: Option<PathBuf>,
}

impl Credentials {
    /// The files that docker and podman use for this user.
    pub fn of_user() -> Credentials {
        Credentials::of(|name| std::env::var_os(name).map(PathBuf::from))
    }

    /// The same by these variables.
    fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Credentials {
        let variable = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
        if let Some(file) = variable("REGISTRY_AUTH_FILE") {
            return Credentials::in_files(vec![file]);
        }
        let home = variable("HOME");
        let runtime = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        let system = format!("/run/containers/{}/auth.json", rustix::process::getuid().as_raw());
        let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let config = config.map(|dir| dir.join("containers/auth.json"));
        let session = runtime.unwrap_or_else(|| PathBuf::from(system));
        if let Some(named) = variable("DOCKER_CONFIG") {
            let docker = Some(named.join("config.json"));
            return Credentials::in_files([docker, Some(session), config].into_iter().flatten().collect());
        }
        let docker = home.map(|home| home.join(".docker/config.json"));
        let login_file = config.clone();
        Credentials { files: [Some(session), config, docker].into_iter().flatten().collect(), login_file }
    }

    /// In these files; what is new goes into the first.
    pub fn in_files(files: Vec<PathBuf>) -> Credentials {
        let login_file = files.first().cloned();
        Credentials { files, login_file }
    }

    /// What is known for a repository.
    pub fn find(&self, repository: &Repository) -> Result<Option<Credential>> {
        self.first(|file| file.find(repository.registry(), Some(repository.path())))
    }

    /// What is known for a registry as a whole.
    pub fn find_registry(&self, registry: &str) -> Result<Option<Credential>> {
        self.first(|file| file.find(registry, None))
    }

    fn first(&self, find: impl Fn(&AuthFile) -> Result<Option<Credential>>) -> Result<Option<Credential>> {
        for path in &self.files {
            if let Some(file) = AuthFile::read(path)? {
                if let Some(found) = find(&file)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Keeps a credential, in the file that has one for this registry, else in
    /// the one that was named; else in the first that exists, else in the user's
    /// own. Gives where it went.
    pub fn login(&self, registry: &str, credential: &Credential) -> Result<PathBuf> {
        let mut present = Vec::new();
        for path in &self.files {
            present.extend(AuthFile::read(path)?);
        }
        let known = present.iter().position(|file| file.knows(registry));
        let is_named = self.login_file.is_some() && self.login_file.as_ref() == self.files.first();
        let mut file = match known.or((!present.is_empty() && !is_named).then_some(0)) {
            Some(at) => present.swap_remove(at),
            None => {
                let path = self.login_file()?;
                AuthFile::read(&path)?.unwrap_or_else(|| AuthFile::new(path))
            }
        };
        file.store(registry, credential)?;
        Ok(file.path().to_owned())
    }

    fn login_file(&self) -> Result<PathBuf> {
        use crate::error::{Error, Kind};
        self.login_file.clone().ok_or_else(|| {
            Error::new(Kind::NotFound, "there is no place to keep a login in")
                .hint("set HOME, or name a file in REGISTRY_AUTH_FILE")
        })
    }

    /// Forgets a registry in every file; whether any knew it.
    pub fn logout(&self, registry: &str) -> Result<bool> {
        let mut known = false;
        for path in &self.files {
            if let Some(mut file) = AuthFile::read(path)? {
                known |= file.erase(registry)?;
            }
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests;
