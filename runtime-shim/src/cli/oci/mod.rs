//! `runion` as an OCI runtime: `create`, `start`, `state`, `kill`, `delete` and
//! more on bundles, as conmon, containerd and people call crun and runc.
//!
//! Some of these words are docker's as well. [`wants`] tells them apart, without
//! a switch: by options that only callers of a runtime use, or by the name of a
//! container that was made from a bundle.

mod create;
mod delete;
mod exec;
mod features;
mod kill;
mod list;
mod log;
mod pause;
mod start;
mod state;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::failure::{Failure, OURS, Result};
use crate::launch::protect;

/// Run bundles: the command line of an OCI runtime.
#[derive(Parser)]
#[command(name = "runion", version)]
struct Cli {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    verb: Verb,
}

/// What every word takes.
#[derive(clap::Args)]
struct Global {
    /// Where containers' states are [default: /run/runion/oci, or $XDG_RUNTIME_DIR/runion/oci]
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,

    /// Where messages go, beside stderr
    #[arg(long, value_name = "FILE", global = true)]
    log: Option<PathBuf>,

    /// How they are written there
    #[arg(long, value_name = "FORMAT", global = true, value_parser = ["text", "json"], default_value = "text")]
    log_format: String,

    /// Nothing more is said
    #[arg(long, global = true)]
    debug: bool,

    /// Refused: cgroups are made without systemd
    #[arg(long, global = true)]
    systemd_cgroup: bool,

    /// Found out by itself
    #[arg(long, global = true, value_name = "WHETHER", num_args = 0..=1, require_equals = true)]
    rootless: Option<Option<String>>,
}

#[derive(Subcommand)]
enum Verb {
    Create(create::Create),
    Run(create::Run),
    Start(start::Start),
    State(state::Show),
    Kill(kill::Kill),
    Delete(delete::Delete),
    List(list::List),
    Exec(exec::Exec),
    Ps(list::Ps),
    Features(features::Features),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Update(pause::Update),
}

/// Options of callers of a runtime alone.
const OF_CALLERS: [&str; 4] = ["--log", "--log-format", "--systemd-cgroup", "--rootless"];
/// Those of options before a word that take a value.
const VALUED: [&str; 3] = ["--root", "--log", "--log-format"];
/// Words that docker does not have.
const OURS_ALONE: [&str; 5] = ["state", "delete", "features", "resume", "list"];
/// Options after a word that take a value, so that it is not the container's
/// name.
const VALUED_AFTER: [&str; 17] = [
    "-b",
    "--bundle",
    "--pid-file",
    "--console-socket",
    "--preserve-fds",
    "-p",
    "--process",
    "--cwd",
    "-e",
    "--env",
    "-u",
    "--user",
    "-c",
    "--cap",
    "--cgroup",
    "--apparmor",
    "--process-label",
];

/// Whether a command line (without the program) is for the runtime.
pub fn wants(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().map(OsString::as_os_str);
    let mut root = None;
    let mut by_caller = false;
    let verb = loop {
        let Some(word) = words.next() else { return false };
        let text = word.to_string_lossy();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
            None => (text.into_owned(), None),
        };
        if !name.starts_with('-') {
            break name;
        }
        by_caller |= OF_CALLERS.contains(&name.as_str());
        let value = match value {
            None if VALUED.contains(&name.as_str()) => words.next().map(OsStr::to_owned),
            value => value,
        };
        if name == "--root" {
            root = value.map(PathBuf::from);
        }
    };
    if OURS_ALONE.contains(&verb.as_str()) {
        return true;
    }
    let is_shared =
        ["create", "run", "start", "kill", "exec", "ps", "pause", "update"].contains(&verb.as_str());
    if !is_shared || by_caller {
        return is_shared;
    }
    let is_there = |id: &str| state::is_there(root.as_deref(), id);
    match verb.as_str() {
        "create" | "run" => look_after(words).0,
        // What follows the name is a command, which may say anything.
        "exec" => look_after(words).1.is_some_and(|id| is_there(&id)),
        _ => words.any(|word| word.to_str().is_some_and(is_there)),
    }
}

/// Whether a bundle is named, and the first word that is no option.
fn look_after<'a>(mut words: impl Iterator<Item = &'a OsStr>) -> (bool, Option<String>) {
    let mut names_bundle = false;
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if !text.starts_with('-') {
            return (names_bundle, Some(text.into_owned()));
        }
        names_bundle |= text == "-b" || text == "--bundle" || text.starts_with("--bundle=");
        if VALUED_AFTER.contains(&&*text) {
            words.next();
        }
    }
    (names_bundle, None)
}

/// Does what such a command line says and gives the exit code.
pub fn run(arguments: &[OsString]) -> u8 {
    let words = [OsString::from("runion")].into_iter().chain(arguments.iter().cloned());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(usage) => {
            // A closed stdout or stderr leaves nobody to tell.
            usage.print().unwrap_or_default();
            return if usage.use_stderr() { OURS } else { 0 };
        }
    };
    let log = log::Log::new(&cli.global);
    match dispatch(cli, &log) {
        Ok(code) => code,
        Err(failure) => log.report(&failure),
    }
}

fn dispatch(cli: Cli, log: &log::Log) -> Result<u8> {
    if cli.global.systemd_cgroup {
        return Err(Failure::failed("--systemd-cgroup is not supported: cgroups are made without systemd")
            .hint("podman: [engine] cgroup_manager=\"cgroupfs\" in containers.conf"));
    }
    let makes_or_enters = matches!(cli.verb, Verb::Create(_) | Verb::Run(_) | Verb::Exec(_));
    if makes_or_enters {
        protect::protect_self()?;
    }
    let root = state::Root::open(cli.global.root.as_deref())?;
    match cli.verb {
        Verb::Create(verb) => verb.run(&root, log),
        Verb::Run(verb) => verb.run(&root, log),
        Verb::Start(verb) => verb.run(&root, log),
        Verb::State(verb) => verb.run(&root),
        Verb::Kill(verb) => verb.run(&root),
        Verb::Delete(verb) => verb.run(&root, log),
        Verb::List(verb) => verb.run(&root),
        Verb::Exec(verb) => verb.run(&root, log),
        Verb::Ps(verb) => verb.run(&root),
        Verb::Features(verb) => verb.run(),
        Verb::Pause(verb) => verb.run(&root),
        Verb::Resume(verb) => verb.run(&root),
        Verb::Update(verb) => verb.run(&root, log),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_words_and_a_runtime_s_are_told_apart() {
        let wants = |line: &str| super::wants(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in [
            "create --bundle /b x",
            "create --pid-file /p -b /b x",
            "create --bundle=/b x",
            "run -b /b x",
            "--log=/l --log-format=json start x",
            "--root /r --log /l kill x 9",
            "--root /nowhere state x",
            "delete --force x",
            "features",
        ] {
            assert!(wants(line), "{line}");
        }
        for line in [
            "create busybox ls -b",
            "create --name x busybox",
            "run --rm busybox",
            "--root /nowhere start x",
            "--root /nowhere exec x ls",
            "kill x",
            "ps",
            "images --format x",
            "--version",
            "",
        ] {
            assert!(!wants(line), "{line}");
        }
        let root = std::env::temp_dir().join(format!("runion-wants-{}", std::process::id()));
        std::fs::create_dir_all(root.join("x")).unwrap();
        std::fs::write(root.join("x").join(state::FILE), "{}").unwrap();
        for line in ["start x", "exec -e A=b -t x ls", "kill x KILL", "pause x", "update --memory 5 x"] {
            assert!(wants(&format!("--root {} {line}", root.display())), "{line}");
        }
        assert!(!wants(&format!("--root {} exec y x", root.display())));
        std::fs::remove_dir_all(root).unwrap();
    }
}
