//! The commands about images: one verb a file, each over the layer store.
//!
//! Words, columns and messages are docker's where docker has them. Exit codes:
//! 0, 1 for a failure, 125 for a command line that means nothing.

mod df;
pub mod diff;
pub mod export;
pub mod filter;
pub mod find;
mod fsck;
mod history;
mod import;
pub mod inspect;
mod list;
mod load;
pub mod platform;
pub mod prune;
pub mod remote;
mod remove;
mod save;
pub mod sink;
mod tag;
mod tree;
pub mod users;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;
use layerstore::digest::Digest;
use layerstore::error::Context;
use layerstore::reference::Reference;
use layerstore::store::{Store, short};

use crate::events;
use crate::failure::{Failure, Result};

/// The commands as they are called alone: `runion images`, `runion rmi`.
#[derive(Subcommand)]
pub enum Alone {
    Images(list::List),
    Load(load::Load),
    Save(save::Save),
    Import(import::Import),
    Export(export::Export),
    Tag(tag::Tag),
    Untag(tag::Untag),
    Rmi(remove::Remove),
    Prune(prune::Prune),
    History(history::History),
    Diff(diff::Diff),
    Df(df::Df),
    Fsck(fsck::Fsck),
    Pull(remote::pull::Pull),
    Push(remote::push::Push),
    Login(remote::login::Login),
    Logout(remote::login::Logout),
    Search(remote::search::Search),
}

/// Manage images; each command can be called alone as well
#[derive(Subcommand)]
pub enum Grouped {
    #[command(visible_alias = "list")]
    Ls(list::List),
    Load(load::Load),
    Save(save::Save),
    Import(import::Import),
    Export(export::Export),
    Tag(tag::Tag),
    Untag(tag::Untag),
    #[command(visible_alias = "remove")]
    Rm(remove::Remove),
    Prune(prune::Prune),
    History(history::History),
    Inspect(inspect::Inspect),
    Diff(diff::Diff),
    Tree(list::Tree),
    Pull(remote::pull::Pull),
    Push(remote::push::Push),
}

impl Alone {
    /// Runs the command over the store in `root`, or the user's own.
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        match self {
            Alone::Login(arguments) => arguments.run(),
            Alone::Logout(arguments) => arguments.run(),
            Alone::Search(arguments) => arguments.run(),
            Alone::Pull(arguments) => arguments.run(&open_store(root)?),
            Alone::Push(arguments) => arguments.run(&open_store(root)?),
            Alone::Images(arguments) => arguments.run(&open_store(root)?),
            Alone::Load(arguments) => arguments.run(&open_store(root)?),
            Alone::Save(arguments) => arguments.run(&open_store(root)?),
            Alone::Import(arguments) => arguments.run(&open_store(root)?),
            Alone::Export(arguments) => arguments.run(&open_store(root)?),
            Alone::Tag(arguments) => arguments.run(&open_store(root)?),
            Alone::Untag(arguments) => arguments.run(&open_store(root)?),
            Alone::Rmi(arguments) => arguments.run(&open_store(root)?),
            Alone::Prune(arguments) => arguments.run(&open_store(root)?),
            Alone::History(arguments) => arguments.run(&open_store(root)?),
            Alone::Diff(arguments) => arguments.run(&open_store(root)?),
            Alone::Df(arguments) => arguments.run(&open_store(root)?),
            Alone::Fsck(arguments) => arguments.run(&open_store(root)?),
        }
    }
}

impl Grouped {
    /// As [`Alone::run`].
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        let alone = match self {
            Grouped::Inspect(arguments) => return arguments.run(&open_store(root)?),
            Grouped::Tree(arguments) => return arguments.run(&open_store(root)?),
            Grouped::Ls(arguments) => Alone::Images(arguments),
            Grouped::Load(arguments) => Alone::Load(arguments),
            Grouped::Save(arguments) => Alone::Save(arguments),
            Grouped::Import(arguments) => Alone::Import(arguments),
            Grouped::Export(arguments) => Alone::Export(arguments),
            Grouped::Tag(arguments) => Alone::Tag(arguments),
            Grouped::Untag(arguments) => Alone::Untag(arguments),
            Grouped::Rm(arguments) => Alone::Rmi(arguments),
            Grouped::Prune(arguments) => Alone::Prune(arguments),
            Grouped::History(arguments) => Alone::History(arguments),
            Grouped::Diff(arguments) => Alone::Diff(arguments),
            Grouped::Pull(arguments) => Alone::Pull(arguments),
            Grouped::Push(arguments) => Alone::Push(arguments),
        };
        alone.run(root)
    }
}

/// How ids are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    /// Twelve digits.
    Short,
    /// All of them, and the algorithm.
    Full,
}

impl Ids {
    /// As `--no-trunc` says.
    fn truncated_unless(no_trunc: bool) -> Ids {
        if no_trunc { Ids::Full } else { Ids::Short }
    }

    fn show(self, id: &Digest) -> String {
        match self {
            Ids::Short => short(id),
            Ids::Full => id.to_string(),
        }
    }
}

/// Tells what happened to an image, by its name where it has one.
pub fn tell(store: &Store, action: &str, id: &Digest, name: Option<&Reference>) {
    let (id, name) = (id.to_string(), name.map(Reference::to_string));
    let actor = match action {
        "pull" | "push" => name.as_ref().unwrap_or(&id),
        _ => &id,
    };
    let attributes = [("name", name.as_ref().unwrap_or(&id).as_str())];
    events::note(store.root(), events::Kind::Image, action, actor, &attributes);
}

/// The store that was named, or `RUNION_ROOT`'s, or the user's own
/// (`layerstore/LAYOUT.md`).
pub fn open_store(named: Option<PathBuf>) -> Result<Store> {
    Ok(Store::open(place_of_store(named)?)?)
}

/// Where that is.
pub fn place_of_store(named: Option<PathBuf>) -> Result<PathBuf> {
    let given = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let root = match named.or_else(|| given("RUNION_ROOT").map(PathBuf::from)) {
        Some(root) => root,
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/runion"),
        None => {
            // A relative one means nothing (XDG Base Directory Specification).
            let data = given("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            let home = given("HOME").map(|home| PathBuf::from(home).join(".local/share"));
            let data = data.or(home).ok_or_else(|| {
                Failure::failed("no place for the store: neither HOME nor XDG_DATA_HOME is set")
                    .hint("name one: runion --root DIR, or RUNION_ROOT=DIR")
            })?;
            data.join("runion")
        }
    };
    // What `inspect` tells of it is to be used elsewhere.
    Ok(std::path::absolute(&root).context(|| format!("find the store {}", root.display()))?)
}
