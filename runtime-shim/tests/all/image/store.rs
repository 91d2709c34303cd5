//! A store for one test, and archives to fill it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::setup::{Scratch, stderr, stdout};

/// A store in a scratch directory.
pub struct Store {
    pub scratch: Scratch,
}

impl Store {
    pub fn new(test: &str) -> Store {
        Store { scratch: Scratch::new(test) }
    }

    /// `runion` over this store; docker's words for times are of one zone.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runion"));
        command.args(arguments).env("RUNION_ROOT", self.path()).env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    pub fn path(&self) -> PathBuf {
        self.scratch.join("store")
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints that succeeds and has nothing to complain of.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{arguments:?}");
        stdout(&output).to_owned()
    }

    /// What a command complains of that fails with this code.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty(), "{arguments:?}");
        stderr(&output).to_owned()
    }

    /// An image of one layer; its id.
    pub fn import(&self, name: &str, files: &[(&str, &str)], options: &[&str]) -> String {
        let archive = self.tar(name, files);
        let mut arguments = vec!["import"];
        arguments.extend(options);
        arguments.push(archive.to_str().unwrap());
        if !name.is_empty() {
            arguments.push(name);
        }
        self.ok(&arguments).trim().to_owned()
    }

    /// As if the image had been pulled: it has a digest in a repository.
    pub fn note_digest(&self, id: &str, digest: &str) {
        let (repository, digest) = digest.split_once('@').unwrap();
        let repository = layerstore::reference::Repository::parse(repository).unwrap();
        let store = layerstore::store::Store::open(self.path()).unwrap();
        store.note_digest(id.parse().unwrap(), &repository, digest.parse().unwrap()).unwrap();
    }

    /// An archive by GNU tar.
    pub fn tar(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let name = name.replace(['/', ':'], "-");
        let tree = self.tree(&name, files);
        let archive = self.scratch.join(&format!("{name}.tar"));
        tool("tar", &["-C", tree.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
        archive
    }

    /// A directory with these files.
    pub fn tree(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let tree = self.scratch.join(&format!("{name}-tree"));
        std::fs::create_dir_all(&tree).unwrap();
        for (path, contents) in files {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents).unwrap();
        }
        tree
    }

    /// An OCI layout by umoci, of a base of one layer and an image of two on it:
    /// `base` and `top`. None, aloud, where there is no umoci.
    pub fn layout(&self) -> Option<PathBuf> {
        if !has("umoci") {
            return None;
        }
        let layout = self.scratch.join("layout");
        let at = |tag: &str| format!("{}:{tag}", layout.display());
        tool("umoci", &["init", "--layout", layout.to_str().unwrap()]);
        tool("umoci", &["new", "--image", &at("base")]);
        let base =
            self.tree("umoci-base", &[("etc/os-release", "ID=base\n"), ("bin/tool", &"tool ".repeat(1000))]);
        tool(
            "umoci",
            &["insert", "--rootless", "--image", &at("base"), base.join("etc").to_str().unwrap(), "/etc"],
        );
        tool("umoci", &["tag", "--image", &at("base"), "top"]);
        let top = base.join("bin");
        tool("umoci", &["insert", "--rootless", "--image", &at("top"), top.to_str().unwrap(), "/bin"]);
        let config =
            ["config", "--image", &at("top"), "--config.cmd", "/bin/tool", "--config.label", "family=test"];
        tool("umoci", &config);
        Some(layout)
    }
}

/// Whether a program is here; says what is skipped if not.
pub fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\" > /dev/null", program]).status().unwrap();
    if !found.success() {
        println!("skipped: no {program} (apt-get install {program})");
    }
    found.success()
}

/// Runs a program that must succeed; what it prints.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", stderr(&output));
    stdout(&output).to_owned()
}

/// A shell line with `runion` as `$RUNION`.
pub fn sh(store: &Store, line: &str, arguments: &[&Path]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh"]).args(arguments).env("RUNION_ROOT", store.path()).env("TZ", "UTC");
    command.env("RUNION", env!("CARGO_BIN_EXE_runion")).stdin(Stdio::null()).output().unwrap()
}
