//! `runion run`: a command over an image, in the foreground, gone at its end.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use layerstore::document::{Execution, Platform};
use layerstore::reference::Reference;
use layerstore::store::{Image, Store, short};
use layerstore::transfer;

use super::image::{find, open_store, remote};
use crate::failure::{Context, Failure, Result};
use crate::output::progress::{Direction, Progress};
use crate::sandbox::{self, Confined, Container, Identity, Network, Privileges, Report, Stdin, Trial, View};
use crate::state::Fate;

/// Run a command over an image
///
/// The command sees the image's files and may change them: what it changed is
/// thrown away at its end. It has its own mounts, processes, IPC objects, host
/// name and users, docker's default capabilities and system calls, and no
/// network unless --network host. There are no limits of resources yet.
#[derive(Args)]
pub struct Run {
    /// Remove everything at its end, which is all that is done so far
    #[arg(long)]
    rm: bool,

    /// Let the command read stdin
    #[arg(long, short)]
    interactive: bool,

    /// Let the command use the terminal that this runs on
    #[arg(long, short)]
    tty: bool,

    /// Set an environment variable; NAME alone takes the caller's
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,

    /// Set those in a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Where the command begins
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// Who the command is: user, uid, user:group or uid:gid
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,

    /// What the machine is called
    #[arg(long, short = 'H', value_name = "NAME")]
    hostname: Option<String>,

    /// What runs in the place of the image's entry point; empty for nothing
    #[arg(long, value_name = "CMD")]
    entrypoint: Option<String>,

    /// What it reaches
    #[arg(long, alias = "net", value_enum, default_value_t = Reach::None, value_name = "NETWORK")]
    network: Reach,

    /// `seccomp=unconfined` allows all system calls, `no-new-privileges` ends what set-user-id programs give
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,

    /// When to ask a registry for the image
    #[arg(long, value_enum, default_value_t = Pull::Missing, value_name = "WHEN")]
    pull: Pull,

    /// Which of several platforms' images, where one is pulled
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    #[command(flatten)]
    access: remote::Access,

    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// The command and its arguments; the image's own where there are none
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Reach {
    /// Nothing but itself
    None,
    /// What the host does
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pull {
    /// Always
    Always,
    /// If it is not here
    Missing,
    /// Never
    Never,
}

/// Where programs are where the image says nothing, as docker has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Run {
    /// Runs it to its end and gives its exit code.
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        self.outcome(root).map_err(Failure::before_a_command)
    }

    fn outcome(self, root: Option<PathBuf>) -> Result<u8> {
        if !self.rm {
            return Err(Failure::new("a container that stays is not possible yet").hint("runion run --rm …"));
        }
        if self.tty && !std::io::stdin().is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let store = open_store(root)?;
        let image = self.image(&store)?;
        // Until the end: nobody removes what is mounted.
        let _held = store.hold(image.id())?;
        let config = store.config(&image.record)?.config;
        let command = self.words(&config)?;
        let (calls, privileges) = self.security()?;
        let container = Container {
            calls,
            privileges,
            index: store.index_file(&image.record),
            objects: store.objects(),
            env: self.environment(&config)?,
            directory: self.directory(&config),
            user: self.user.clone().unwrap_or(config.user),
            hostname: self.hostname.clone().unwrap_or_else(|| unique_name(&image)),
            network: match self.network {
                Reach::None => Network::None,
                Reach::Host => Network::Host,
            },
            stdin: if self.interactive || self.tty { Stdin::Callers } else { Stdin::Null },
        };
        sandbox::run(&Trial {
            view: View::Image(Box::new(container)),
            fate: Fate::Discard,
            identity: Identity::Root,
            report: Report::Quiet,
            command,
        })
    }

    fn security(&self) -> Result<(Confined, Privileges)> {
        let (mut calls, mut privileges) = (Confined::ByDefault, Privileges::OfPrograms);
        for option in &self.security_opt {
            match option.as_str() {
                "seccomp=unconfined" => calls = Confined::Unconfined,
                "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true" => {
                    privileges = Privileges::NoNew;
                }
                other => {
                    return Err(Failure::new(format!("invalid --security-opt: {other:?}"))
                        .hint("there are seccomp=unconfined and no-new-privileges"));
                }
            }
        }
        Ok((calls, privileges))
    }

    fn image(&self, store: &Store) -> Result<Image> {
        let here = find::present_or_builtin(store, &self.image)?;
        match (here, self.pull) {
            (Some(image), Pull::Missing | Pull::Never) => return Ok(image),
            (None, Pull::Never) => return Err(find::no_such_image(&self.image)),
            (_, Pull::Always) | (None, Pull::Missing) => {}
        }
        let name = Reference::parse(&self.image)?;
        crate::failure::say(&format!("Unable to find image '{name}' locally"));
        let platform = self.platform.as_deref().map_or_else(|| Ok(Platform::host()), str::parse)?;
        let client = self.access.client(name.repository().registry())?;
        // What a command prints is its own: progress is told on a terminal alone.
        let look = if std::io::stdout().is_terminal() { remote::look(false) } else { remote::look(true) };
        let progress = Progress::new(Direction::Pull, look);
        let pulled =
            transfer::pull(store, &client, &name, &platform, &|digest, step| progress.note(digest, step))?;
        Ok(store.find(&pulled.id.to_string())?)
    }

    /// Entry point and command, as docker puts them together.
    fn words(&self, config: &Execution) -> Result<Vec<OsString>> {
        let entrypoint: Vec<OsString> = match &self.entrypoint {
            Some(entrypoint) if entrypoint.is_empty() => Vec::new(),
            Some(entrypoint) => vec![entrypoint.into()],
            None => config.entrypoint.iter().map(OsString::from).collect(),
        };
        let command: Vec<OsString> = match (self.command.is_empty(), &self.entrypoint) {
            (false, _) => self.command.clone(),
            (true, None) => config.cmd.iter().map(OsString::from).collect(),
            // The image's command was meant for its own entry point.
            (true, Some(_)) => Vec::new(),
        };
        let words = [entrypoint, command].concat();
        match words.is_empty() {
            true => Err(Failure::new("no command specified").hint("name one: runion run IMAGE CMD")),
            false => Ok(words),
        }
    }

    fn environment(&self, config: &Execution) -> Result<Vec<OsString>> {
        let mut env: Vec<OsString> = vec![PATH.into()];
        if self.tty {
            env.push("TERM=xterm".into());
        }
        env.extend(config.env.iter().map(OsString::from));
        for path in &self.env_file {
            let text = std::fs::read(path).context(|| format!("open {}", path.display()))?;
            let lines =
                text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
            env.extend(lines.filter_map(|line| valued(OsString::from_vec(line.to_vec()))));
        }
        env.extend(self.env.iter().cloned().filter_map(valued));
        Ok(env)
    }

    fn directory(&self, config: &Execution) -> PathBuf {
        let own = Some(&config.working_dir).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let root = PathBuf::from("/");
        match &self.workdir {
            Some(dir) => root.join(own.unwrap_or_default()).join(dir),
            None => root.join(own.unwrap_or_default()),
        }
    }
}

/// A name alone has the caller's value, or there is no such variable.
fn valued(pair: OsString) -> Option<OsString> {
    use std::os::unix::ffi::OsStrExt;
    if pair.as_bytes().contains(&b'=') {
        return Some(pair);
    }
    let value = std::env::var_os(&pair)?;
    Some([pair, "=".into(), value].into_iter().collect())
}

/// Twelve digits, as docker names machines: none is the same soon.
fn unique_name(image: &Image) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let salted = format!("{} {} {}", image.id(), std::process::id(), now.as_nanos());
    short(&layerstore::digest::Digest::of(salted.as_bytes()))
}
