//! The words on the command line: one verb a file.
//!
//! A verb's argument structure holds what was typed and its doc comments are
//! the help text; `run` turns it into what it means and calls the parts that
//! do it.

mod ask;
mod container;
mod document;
mod filter;
mod image;
mod inspect;
mod network;
mod oci;
mod space;
mod system;
mod try_;
mod volume;

pub use network::tell as tell_of_network;

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure;
use crate::launch::protect::protect_self;

/// Run commands over copy-on-write views of file systems, and keep container images.
#[derive(Parser)]
#[command(name = "runion", version, after_help = EXIT_CODES)]
struct Cli {
    /// The store of images [default: RUNION_ROOT, else /var/lib/runion for root and ~/.local/share/runion]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    #[command(flatten)]
    Container(Box<container::Alone>),
    #[command(subcommand, name = "container")]
    Containers(Box<container::Grouped>),
    Inspect(inspect::Inspect),
    Try(try_::Try),
    #[command(flatten)]
    Alone(Box<image::Alone>),
    #[command(subcommand)]
    Image(Box<image::Grouped>),
    #[command(subcommand)]
    Network(Box<network::Grouped>),
    #[command(subcommand)]
    Volume(Box<volume::Volumes>),
    #[command(subcommand)]
    System(system::System),
    #[command(flatten)]
    OfSystem(system::Alone),
    #[command(flatten)]
    Document(document::Document),
}

const EXIT_CODES: &str = "Exit codes: 125 for a command line that means nothing; of `try`: 125 when runion itself \
fails, 126 when the command cannot be run, 127 when it is not found, else the command's own, or 128 + the signal that \
ended it; of the commands about images: 0, or 1 for a failure.";

/// Parses the command line, runs the verb and gives the exit code.
pub fn run() -> u8 {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if oci::wants(&arguments) {
        return oci::run(&arguments);
    }
    // Who is to be another program before it does anything is so before it
    // parses: all verbs take a while. What only looks like one does no harm.
    if arguments.iter().any(|word| container::is_protected(word)) {
        if let Err(failure) = protect_self() {
            return failure.report();
        }
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return explain(&usage),
    };
    let outcome = match cli.verb {
        Verb::Container(verb) => verb.run(cli.root),
        Verb::Containers(verb) => verb.run(cli.root),
        Verb::Inspect(arguments) => image::open_store(cli.root).and_then(|store| arguments.run(&store)),
        Verb::Try(arguments) => arguments.run(),
        Verb::Alone(verb) => verb.run(cli.root),
        Verb::Image(verb) => verb.run(cli.root),
        Verb::Network(verb) => verb.run(cli.root),
        Verb::Volume(verb) => verb.run(cli.root),
        Verb::System(verb) => verb.run(cli.root),
        Verb::OfSystem(verb) => verb.run(cli.root),
        Verb::Document(verb) => verb.run(Cli::command()),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

/// Prints help, the version, or what is wrong with the command line.
fn explain(usage: &clap::Error) -> u8 {
    // A closed stdout or stderr leaves nobody to tell.
    usage.print().unwrap_or_default();
    if usage.use_stderr() { failure::OURS } else { 0 }
}
