//! What is made of the definitions of the words: the manual's reference,
//! completions, man pages.

use std::fs;
use std::process::{Command, Output};

use crate::setup::{Scratch, stderr, stdout};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/runion.1.md");
const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->\n";

/// Needs no store and no mount helper.
fn runion(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_runion")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    output
}

/// `RUNION_WRITE_DOCS=1` writes it instead.
#[test]
fn the_page_has_every_command_as_its_help_has_it() {
    let output = runion(&["help-page"]);
    let reference = stdout(&output);
    let page = fs::read_to_string(PAGE).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("a place for the reference");
    let (there, tail) = rest.split_once(END).expect("its end");
    if std::env::var_os("RUNION_WRITE_DOCS").is_some() {
        fs::write(PAGE, format!("{head}{BEGIN}{reference}{END}{tail}")).unwrap();
        return;
    }
    assert!(
        there == reference,
        "docs/runion.1.md is not what --help says: RUNION_WRITE_DOCS=1 cargo test -p runtime-shim --test all \
         the_page"
    );
    for heading in ["### runion run\n", "### runion network\n", "#### runion network create\n"] {
        assert!(reference.contains(heading), "{heading}");
    }
}

#[test]
fn shells_take_the_completions() {
    for (shell, check) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let output = runion(&["completion", shell]);
        let text = stdout(&output);
        assert!(text.contains("runion") && text.contains("unpause"), "{shell}");
        if Command::new(check).arg("--version").output().is_err() {
            println!("skipped: {shell} is not installed");
            continue;
        }
        let scratch = Scratch::new("completion");
        let file = scratch.join("completions");
        fs::write(&file, text).unwrap();
        let checked = Command::new(check).arg("-n").arg(&file).output().unwrap();
        assert!(checked.status.success(), "{shell}: {}", stderr(&checked));
    }
}

#[test]
fn every_command_has_a_man_page() {
    let scratch = Scratch::new("man");
    runion(&["man", scratch.path().to_str().unwrap()]);
    for page in ["runion.1", "runion-run.1", "runion-network-create.1"] {
        let text = fs::read_to_string(scratch.join(page)).unwrap();
        assert!(text.contains(".TH "), "{page}");
    }
    let run = fs::read_to_string(scratch.join("runion-run.1")).unwrap();
    assert!(run.contains("publish"), "{run}");
    assert!(!scratch.join("runion-help-page.1").exists(), "what is hidden stays so");
}
