//! Mounts: words of their options, what they cover, how the root is entered.

use std::process::Command;

use serde_json::json;

use super::bundle::{Bundle, Runtime};
use crate::setup::{stderr, stdout};

#[test]
fn read_only_reaches_below_only_when_it_is_asked_to() {
    let Some(mut bundle) = Bundle::new("recursive") else { return };
    let host = bundle.scratch.join("host");
    std::fs::create_dir_all(host.join("below")).unwrap();
    for (at, word) in [("/one", "ro"), ("/all", "rro")] {
        bundle
            .mount(json!({ "destination": at, "type": "bind", "source": host, "options": ["rbind", word] }));
    }
    bundle.line(
        "for d in /one /one/below /all /all/below; do touch $d/x 2>/dev/null && echo $d; done; \
         awk '$5 ~ \"below\" {print $5, $6}' /proc/self/mountinfo",
    );
    bundle.write();
    let run = bundle.runtime(Runtime::Ours, &["run", "-b", bundle.path().to_str().unwrap(), "recursive"]);
    let script = format!("mount -t tmpfs -o nosuid x {}/below && exec \"$@\"", host.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let output = command.arg(run.get_program()).args(run.get_args()).output().unwrap();
    let expected = "/one/below\n/one/below rw,nosuid,relatime\n/all/below ro,nosuid,relatime\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
}

#[test]
fn a_tmpfs_has_its_size_its_mode_or_that_of_what_it_covers() {
    let Some(mut bundle) = Bundle::new("tmpfs") else { return };
    let covered = bundle.root().join("covered");
    std::fs::create_dir(&covered).unwrap();
    std::fs::write(covered.join("file"), "inside").unwrap();
    std::os::unix::fs::chown(covered.join("file"), Some(3), Some(4)).unwrap();
    std::os::unix::fs::symlink("file", covered.join("link")).unwrap();
    Command::new("chmod").args(["2751"]).arg(&covered).status().unwrap();
    Command::new("chmod").args(["4755"]).arg(covered.join("file")).status().unwrap();
    for (at, options) in [
        ("/covered", json!(["tmpcopyup", "size=1m"])),
        ("/fresh", json!(["size=64k"])),
        ("/exact", json!(["mode=0700", "uid=5", "gid=6", "noexec"])),
    ] {
        bundle.mount(json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options }));
    }
    bundle.line(
        "stat -c '%a %u:%g %n' /covered /covered/file /fresh /exact; cat /covered/link; \
         head -c 100000 /dev/zero > /fresh/big 2>/dev/null || echo full; rm /covered/file && ls /covered",
    );
    let output = bundle.run(Runtime::Ours);
    let expected =
        "2751 0:0 /covered\n4755 3:4 /covered/file\n1777 0:0 /fresh\n700 5:6 /exact\ninsidefull\nlink\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    assert!(covered.join("file").exists());
}

#[test]
fn what_cannot_be_mounted_is_refused_by_name() {
    let Some(mut bundle) = Bundle::new("refusals") else { return };
    std::fs::write(bundle.root().join("a-file"), "").unwrap();
    let usual = bundle.config["mounts"].clone();
    bundle.line("true");
    for (mount, words) in [
        (
            json!({ "destination": "/x", "type": "bind", "source": "/nosuch", "options": ["bind"] }),
            "cannot mount /nosuch on /x",
        ),
        (
            json!({ "destination": "/x", "type": "bind", "source": "/etc", "options": ["bind", "nosuchword"] }),
            "no option \"nosuchword\"",
        ),
        (json!({ "destination": "/x", "type": "bind", "options": ["bind"] }), "takes a source"),
        (json!({ "destination": "x", "type": "tmpfs", "source": "x" }), "not absolute"),
        (
            json!({ "destination": "/x", "type": "tmpfs", "source": "x", "options": ["nosuchword=1"] }),
            "nosuchword",
        ),
        (json!({ "destination": "/x", "type": "nosuchfs", "source": "x" }), "cannot mount nosuchfs on /x"),
        (json!({ "destination": "/x", "source": "x" }), "neither a type nor bind"),
        (
            json!({ "destination": "/x", "type": "bind", "source": "/etc", "options": ["bind", "remount"] }),
            "\"remount\"",
        ),
        (json!({ "destination": "/a-file", "type": "tmpfs", "source": "x" }), "is not a directory"),
        (
            json!({ "destination": "/etc", "type": "bind", "source": "/etc/passwd", "options": ["bind"] }),
            "is a directory",
        ),
    ] {
        bundle.mount(mount.clone());
        let output = bundle.run(Runtime::Ours);
        assert_eq!(output.status.code(), Some(125), "{mount}");
        assert!(stderr(&output).contains(words), "{mount}: {}", stderr(&output));
        bundle.config["mounts"] = usual.clone();
    }
}

#[test]
fn the_root_is_entered_without_pivoting_too() {
    let Some(mut bundle) = Bundle::new("chroot") else { return };
    bundle.config["root"]["readonly"] = json!(true);
    bundle.line("ls /; touch /x 2>/dev/null || echo read-only; ls /proc/1/root/ | wc -l");
    let with = bundle.run(Runtime::Ours);
    let path = bundle.path();
    let words = ["run", "--no-pivot", "--no-new-keyring", "-b", path.to_str().unwrap(), "chroot"];
    let without = bundle.runtime(Runtime::Ours, &words).output().unwrap();
    assert_eq!(stdout(&with), stdout(&without), "{}", stderr(&without));
    assert!(stdout(&without).contains("read-only"));
}

#[test]
fn failures_are_in_the_log_and_features_are_said() {
    let Some(mut bundle) = Bundle::new("log") else { return };
    bundle.words(&["nosuch"]);
    bundle.write();
    let log = bundle.scratch.join("log");
    let (path, file) = (bundle.path(), log.to_str().unwrap());
    let words = ["--log", file, "--log-format", "json", "create", "-b", path.to_str().unwrap(), "log"];
    let output = bundle.runtime(Runtime::Ours, &words).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let line: serde_json::Value = serde_json::from_slice(&std::fs::read(&log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("executable file not found"), "{line}");
    let output = bundle.runtime(Runtime::Ours, &["features"]).output().unwrap();
    let features: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(features["linux"]["namespaces"].as_array().unwrap().iter().any(|name| name == "time"));
    let output = bundle.runtime(Runtime::Ours, &["--systemd-cgroup", "start", "x"]).output().unwrap();
    assert!(stderr(&output).contains("--systemd-cgroup is not supported"), "{}", stderr(&output));
}
