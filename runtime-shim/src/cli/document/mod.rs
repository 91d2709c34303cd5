//! What is made of the definitions of the words: completions of shells, man
//! pages, the reference of the manual.

mod reference;

use std::path::PathBuf;

use clap::{Args, Command, Subcommand, ValueEnum};

use crate::failure::{Context, FAILED, Result};
use crate::output;

/// The commands.
#[derive(Subcommand)]
pub enum Document {
    Completion(Completion),
    Man(Man),
    /// Print the manual's reference, as `docs/runion.1.md` has it
    #[command(hide = true)]
    HelpPage,
}

/// Print a shell's completions
///
/// bash: runion completion bash > /etc/bash_completion.d/runion. zsh: into a
/// file _runion of a directory of $fpath. fish: into
/// ~/.config/fish/completions/runion.fish.
#[derive(Args)]
pub struct Completion {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Write man pages, one a command
#[derive(Args)]
pub struct Man {
    /// Where: a directory that is there, such as /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Document {
    /// Runs the command over the definitions.
    pub fn run(self, mut definitions: Command) -> Result<u8> {
        match self {
            Document::Completion(Completion { shell }) => {
                let mut text = Vec::new();
                let shell = match shell {
                    Shell::Bash => clap_complete::Shell::Bash,
                    Shell::Zsh => clap_complete::Shell::Zsh,
                    Shell::Fish => clap_complete::Shell::Fish,
                };
                clap_complete::generate(shell, &mut definitions, "runion", &mut text);
                output::print_bytes(&text)?;
            }
            Document::Man(Man { dir }) => {
                let written = clap_mangen::generate_to(definitions, &dir);
                written
                    .context(|| format!("cannot write man pages to {}", dir.display()))
                    .map_err(|failure| failure.code(FAILED))?;
            }
            Document::HelpPage => output::print(&reference::page(definitions))?,
        }
        Ok(0)
    }
}
