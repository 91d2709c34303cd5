//! `runion login` and `runion logout`.

use std::io::{IsTerminal, Read, Write};

use clap::Args;
use layerstore::credentials::{Credential, Credentials};
use layerstore::reference::{DEFAULT_REGISTRY, parse_registry};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::Access;
use crate::failure::{Context, Failure, Result};
use crate::output;

/// Prove who you are to a registry, and remember it where docker and podman do
///
/// REGISTRY_AUTH_FILE names the file, or DOCKER_CONFIG docker's directory. Whom a
/// registry's certificate is by, if nobody here knows them, is told by a file
/// ca.crt in /etc/docker/certs.d/HOST:PORT, /etc/containers/certs.d/HOST:PORT or
/// ~/.config/containers/certs.d/HOST:PORT.
#[derive(Args)]
pub struct Login {
    /// The registry [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,

    /// Who
    #[arg(long, short, value_name = "NAME")]
    username: Option<String>,

    /// The password, for everybody on this machine to see: better by --password-stdin
    #[arg(long, short, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,

    /// Read the password from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,

    #[command(flatten)]
    access: Access,
}

/// Forget who you are to a registry
#[derive(Args)]
pub struct Logout {
    /// The registry [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

fn registry(named: Option<&str>) -> Result<String> {
    Ok(parse_registry(named.unwrap_or(DEFAULT_REGISTRY))?)
}

impl Login {
    /// Asks the registry, and remembers what it took.
    pub fn run(self) -> Result<u8> {
        let registry = registry(self.registry.as_deref())?;
        if self.password.is_some() {
            crate::failure::say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        let user = match self.username {
            Some(user) => user,
            None => asked("Username: ", Echo::Yes)?,
        };
        let password = match (self.password, self.password_stdin) {
            (Some(password), _) => password,
            (None, true) => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context(|| "read the password".into())?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            (None, false) => asked("Password: ", Echo::No)?,
        };
        if user.is_empty() || password.is_empty() {
            return Err(Failure::failed("a name and a password are needed"));
        }
        let credential = Credential::password(user, password);
        self.access.client(&registry)?.check_login(&registry, Some(&credential))?;
        let at = Credentials::of_user().login(&registry, &credential)?;
        output::print(&format!("Login Succeeded\nremembered in {}\n", at.display()))?;
        Ok(0)
    }
}

impl Logout {
    /// Forgets.
    pub fn run(self) -> Result<u8> {
        let registry = registry(self.registry.as_deref())?;
        match Credentials::of_user().logout(&registry)? {
            true => output::print(&format!("Removing login credentials for {registry}\n"))?,
            false => output::print(&format!("Not logged in to {registry}\n"))?,
        }
        Ok(0)
    }
}

/// Whether what is typed is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Yes,
    No,
}

/// A line from the terminal, which is as it was afterwards.
fn asked(question: &str, echo: Echo) -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::failed("Cannot perform an interactive login from a non TTY device")
            .hint("runion login -u NAME --password-stdin REGISTRY < FILE"));
    }
    let reading = || "read from the terminal".to_owned();
    let mut out = std::io::stdout().lock();
    out.write_all(question.as_bytes()).and_then(|()| out.flush()).context(reading)?;
    let before = tcgetattr(&stdin).context(reading)?;
    if echo == Echo::No {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent).context(reading)?;
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if echo == Echo::No {
        tcsetattr(&stdin, OptionalActions::Flush, &before).context(reading)?;
        out.write_all(b"\n").context(reading)?;
    }
    read.context(reading)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
