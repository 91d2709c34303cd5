//! Hooks: in their order and namespaces, with the state on stdin, and what their
//! failures do.

use serde_json::{Value, json};

use super::bundle::{Bundle, Runtime, has};
use crate::setup::{stderr, stdout};

fn hook(log: &std::path::Path, name: &str) -> Value {
    let line = format!(
        "state=$(cat); echo {name} $(readlink /proc/self/ns/mnt) $(echo $state | tr -d ' \\n' | \
         grep -o -e '\"status\":\"[a-z]*\"') $0 $A >> {}",
        log.display()
    );
    json!({ "path": "/bin/sh", "args": ["sh", "-c", line, "zero"], "env": ["PATH=/usr/bin:/bin", "A=b"] })
}

#[test]
fn they_run_in_their_order_and_namespaces_with_the_state() {
    let Some(mut bundle) = Bundle::new("hooks") else { return };
    let log = bundle.scratch.join("log");
    bundle.config["hooks"] = json!({
        "prestart": [hook(&log, "prestart")],
        "createRuntime": [hook(&log, "createRuntime")],
        "createContainer": [hook(&log, "createContainer")],
        "poststart": [hook(&log, "poststart")],
        "poststop": [hook(&log, "poststop")],
        "startContainer": [{
            "path": "/bin/sh",
            "args": ["sh", "-c", "grep -o '\"status\":\"[a-z]*\"' | /bin/tr -d '\\n'; echo; /bin/pwd"],
        }],
    });
    bundle.line("echo command");
    let mut all = Vec::new();
    for runtime in [Runtime::Ours, Runtime::Crun, Runtime::Runc].into_iter().filter(|one| has(*one)) {
        let output = bundle.run(runtime);
        assert!(output.status.success(), "{runtime:?}: {}", stderr(&output));
        let said = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let own = own.to_str().unwrap();
        // crun is in a mount namespace of its own here.
        let shape = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let place = if runtime == Runtime::Crun || words[1] == own { "outside" } else { "inside" };
            (words[0].to_owned(), place, words[2..].join(" "))
        };
        all.push((runtime, said.lines().map(shape).collect::<Vec<_>>(), stdout(&output).to_owned()));
    }
    let (_, ours, printed) = &all[0];
    let names: Vec<&str> = ours.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    let places: Vec<&str> = ours.iter().map(|(_, place, _)| *place).collect();
    assert_eq!(places, ["outside", "outside", "inside", "outside", "outside"]);
    assert_eq!(printed, "\"status\":\"created\"\n/\ncommand\n");
    for (runtime, theirs, _) in &all[1..] {
        let told = |lines: &[(String, &str, String)]| {
            lines.iter().map(|(name, _, told)| format!("{name} {told}")).collect::<Vec<_>>()
        };
        // runc says "created" of what the specification calls being created, and running.
        let same = |lines: Vec<String>| {
            lines.join("\n").replace("creating", "created").replace("running", "created")
        };
        assert_eq!(same(told(ours)), same(told(theirs)), "{runtime:?}");
    }
}

#[test]
fn one_that_fails_or_hangs_ends_a_creation_and_later_ones_are_words() {
    let Some(mut bundle) = Bundle::new("failing") else { return };
    bundle.line("echo command");
    for which in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        bundle.config["hooks"] = json!({ which: [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 3"] }] });
        let output = bundle.run(Runtime::Ours);
        assert_eq!(output.status.code(), Some(125), "{which}");
        assert_eq!(stdout(&output), "", "{which}");
        assert!(
            stderr(&output).contains(&format!("the {which} hook /bin/sh failed: exit code 3")),
            "{}",
            stderr(&output)
        );
    }
    bundle.config["hooks"] =
        json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1 }] });
    let began = std::time::Instant::now();
    let output = bundle.run(Runtime::Ours);
    assert!(stderr(&output).contains("did not end within its timeout"), "{}", stderr(&output));
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
    for which in ["poststart", "poststop"] {
        bundle.config["hooks"] = json!({ which: [{ "path": "/nosuch" }] });
        let output = bundle.run(Runtime::Ours);
        assert_eq!((output.status.code(), stdout(&output)), (Some(0), "command\n"), "{which}");
        assert!(stderr(&output).contains("warning: "), "{which}: {}", stderr(&output));
    }
    let left = std::fs::read_dir(bundle.scratch.join("state-Ours")).unwrap().count();
    assert_eq!(left, 0);
}
