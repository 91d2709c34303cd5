//! The mount program as its callers run it: real mounts, each test in a mount
//! namespace of its own that takes mounts and daemons with it when it ends.

mod clients;
mod daemon;
mod direct;
mod effects;
mod mount8;
mod owners;
mod refusals;
mod rootless;
mod scene;

/// A file of tests that nobody named above would be a file of no tests.
#[test]
fn every_file_here_is_a_module() {
    let main = include_str!("main.rs");
    for entry in std::fs::read_dir("tests/suite").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name} is not compiled");
    }
}
