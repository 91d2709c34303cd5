//! The same bundle run by ours, crun and runc has the same observable result.

use serde_json::json;

use super::bundle::{Bundle, Runtime, has};
use crate::setup::{stderr, stdout};

/// Says all that a process can find out about itself.
const PROBE: &str = "\
grep -E '^(Cap|NoNew|Seccomp:|Umask|Uid|Gid|Groups)' /proc/self/status; \
cat /proc/self/limits; cat /proc/self/oom_score_adj; env | sort; pwd; umask; hostname; id; ls /proc/self/fd | wc -l; \
for fd in 0 1 2; do readlink /proc/self/fd/$fd | sed 's/[0-9]*//g'; done; \
cat /proc/self/uid_map; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; \
ls -lan /dev | awk '{print $1, $3, $4, $5, $6, $NF}' | grep -v -e kcore -e core -e ' \\.$'; ls -la /proc/keys | awk '{print $1,$5,$6}'; \
ifconfig lo | grep -c -e ' UP ' -e 127.0.0.1; ls -A /sys/firmware | wc -l; echo x 2>/dev/null > /proc/sys/kernel/hostname || echo refused; \
for n in net ipc uts mnt pid user cgroup; do readlink /proc/self/ns/$n | grep -q . && echo $n; done";

/// Mounts by destination, with all options but those that tell of cgroups, or
/// in which others are laxer than they could be.
const MOUNTS: &str = "awk '{print $5, $6, $7, $(NF-2), $NF}' /proc/self/mountinfo | grep -v -e /sys/fs/cgroup \
    -e '^/proc/[akst]' -e '^/sys/firmware' | sed -e 's/ - / /' -e 's/inode64//' -e 's/sysfs r[ow]/sysfs/' -e 's/master:[0-9]*//' | sort";

fn same(bundle: &Bundle, what: &str) {
    let ours = bundle.run(Runtime::Ours);
    assert!(ours.status.success(), "{what}: {}", stderr(&ours));
    for other in [Runtime::Crun, Runtime::Runc] {
        if !has(other) {
            continue;
        }
        let theirs = bundle.run(other);
        assert!(theirs.status.success(), "{what}: {other:?}: {}", stderr(&theirs));
        let (ours, theirs) = (lines(stdout(&ours)), lines(stdout(&theirs)));
        let only = |of: &[String], than: &[String]| -> Vec<String> {
            of.iter().filter(|line| !than.contains(line)).cloned().collect()
        };
        assert_eq!(only(&ours, &theirs), only(&theirs, &ours), "{what}: ours, and {other:?}'s");
        assert_eq!(ours, theirs, "{what}: ours, and {other:?}'s");
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_plain_process_finds_itself_the_same() {
    let Some(mut bundle) = Bundle::new("plain") else { return };
    bundle.line(PROBE);
    same(&bundle, "plain");
    bundle.line(MOUNTS);
    same(&bundle, "mounts");
}

#[test]
fn ids_groups_rights_and_limits_are_the_same() {
    let Some(mut bundle) = Bundle::new("rights") else { return };
    let some = json!(["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETPCAP"]);
    bundle.config["process"]["user"] =
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 0o27 });
    bundle.config["process"]["capabilities"] = json!({
        "bounding": some, "permitted": some, "effective": some, "inheritable": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN"],
    });
    bundle.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 512, "hard": 1000 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        { "type": "RLIMIT_NPROC", "soft": 500, "hard": 600 },
    ]);
    bundle.config["process"]["oomScoreAdj"] = json!(300);
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.config["process"]["cwd"] = json!("/tmp");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "A=1", "B=two words", "A=again"]);
    bundle.line(PROBE);
    same(&bundle, "rights");
    // HOME is the user's own where nothing is said.
    bundle.line("echo $HOME");
    same(&bundle, "home");
    bundle.config["process"]["capabilities"] = json!(null);
    bundle.config["process"].as_object_mut().unwrap().remove("capabilities");
    bundle.line("grep Cap /proc/self/status");
    same(&bundle, "no capabilities");
}

#[test]
fn parameters_and_names_are_the_same() {
    let Some(mut bundle) = Bundle::new("parameters") else { return };
    bundle.config["linux"]["sysctl"] =
        json!({ "net.ipv4.ip_forward": "1", "kernel.shmmax": "65536", "fs.mqueue.msg_max": "20" });
    bundle.config["hostname"] = json!("another");
    bundle.line(&format!("{PROBE}; cat /proc/sys/fs/mqueue/msg_max"));
    same(&bundle, "parameters");
}

#[test]
fn bind_mounts_and_file_systems_are_the_same() {
    let Some(mut bundle) = Bundle::new("binds") else { return };
    let host = bundle.scratch.join("host");
    std::fs::create_dir_all(host.join("below")).unwrap();
    std::fs::write(host.join("file"), "of the host\n").unwrap();
    std::fs::create_dir_all(bundle.root().join("seed/deep")).unwrap();
    std::fs::write(bundle.root().join("seed/deep/file"), "seed\n").unwrap();
    std::os::unix::fs::symlink("/tmp", bundle.root().join("link")).unwrap();
    for (at, options) in [
        ("/made/of/parts", json!(["bind", "ro", "nosuid"])),
        ("/rw", json!(["rbind", "rw", "noexec"])),
        ("/link/inside", json!(["bind", "nodev", "noatime"])),
        ("/slave", json!(["rbind", "rslave"])),
        ("/void", json!(["bind", "mode=755", "size=1k"])),
    ] {
        bundle.mount(json!({ "destination": at, "type": "bind", "source": host, "options": options }));
    }
    bundle.mount(json!({
        "destination": "/etc/one", "type": "bind", "source": host.join("file"), "options": ["bind", "ro"],
    }));
    bundle.mount(json!({
        "destination": "/fresh", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "nodev", "mode=0755", "size=64k", "nr_inodes=50"],
    }));
    bundle.mount(json!({
        "destination": "/seed", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "mode=755"],
    }));
    bundle.line(
        "cat /etc/one /seed/deep/file; touch /rw/new && echo written; touch /made/of/parts/x 2>/dev/null || \
         echo read-only; ls /tmp/inside /made/of/parts; stat -c '%a %n' /fresh /seed",
    );
    same(&bundle, "contents");
    assert!(host.join("new").exists());
    bundle.line(MOUNTS);
    same(&bundle, "mounts");
}

#[test]
fn a_read_only_root_and_devices_are_the_same() {
    let Some(mut bundle) = Bundle::new("devices") else { return };
    bundle.config["root"]["readonly"] = json!(true);
    bundle.config["linux"]["devices"] = json!([
        { "type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 0, "gid": 5 },
        { "type": "p", "path": "/dev/pipe", "fileMode": 0o600 },
    ]);
    bundle.line(&format!("{PROBE}; touch /x 2>/dev/null || echo read-only; touch /dev/x && echo not there"));
    same(&bundle, "devices");
}

#[test]
fn namespaces_that_are_not_named_are_shared() {
    let Some(mut bundle) = Bundle::new("shared") else { return };
    for kind in ["pid", "network", "ipc", "uts", "cgroup"] {
        bundle.without_namespace(kind);
    }
    bundle.config.as_object_mut().unwrap().remove("hostname");
    let names = "for n in pid net ipc uts cgroup time user; do readlink /proc/self/ns/$n; done";
    bundle.line(names);
    same(&bundle, "shared");
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    let output = bundle.run(Runtime::Ours);
    assert!(stdout(&output).contains(host.to_str().unwrap()), "{}", stdout(&output));
}

#[test]
fn system_calls_are_filtered_the_same() {
    let Some(mut bundle) = Bundle::new("filtered") else { return };
    let of_unix_sockets = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
            { "names": ["sethostname", "no_such_call"], "action": "SCMP_ACT_ERRNO" },
            { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": of_unix_sockets },
            { "names": ["chroot"], "action": "SCMP_ACT_KILL_PROCESS" },
        ],
    });
    let line = "exec 2>&1; grep -E '^(Seccomp:|NoNew|Cap)' /proc/self/status; mkdir /tmp/a; hostname b; \
                logger c; echo $?; ifconfig lo > /dev/null; echo $?; chroot / true; echo $?";
    for (none_new, code) in [(true, 0), (false, 0)] {
        bundle.config["process"]["noNewPrivileges"] = json!(none_new);
        bundle.line(line);
        same(&bundle, "filtered");
        let ours = bundle.run(Runtime::Ours);
        assert_eq!(ours.status.code(), Some(code));
        let said = stdout(&ours);
        for word in
            ["Seccomp:\t2\n", "'/tmp/a': No space left on device\n", "Operation not permitted\n", "\n159\n"]
        {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}

#[test]
fn users_of_its_own_are_the_same() {
    let Some(mut bundle) = Bundle::new("users") else { return };
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    bundle.namespace(json!({ "type": "user" }));
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7] });
    bundle.line(&PROBE.replace("ls -lan /dev", "ls -A /dev").replace("; hostname", ""));
    same(&bundle, "users");
}

#[test]
fn exit_codes_are_the_command_s() {
    let Some(mut bundle) = Bundle::new("codes") else { return };
    for (line, code) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255)] {
        bundle.line(line);
        for runtime in [Runtime::Ours, Runtime::Crun, Runtime::Runc].into_iter().filter(|one| has(*one)) {
            assert_eq!(bundle.run(runtime).status.code(), Some(code), "{line}: {runtime:?}");
        }
    }
    // As docker has them, which asks the runtime.
    for (words, code, said) in [
        (&["nosuch"][..], 127, "exec: \"nosuch\": executable file not found in $PATH"),
        (&["/nosuch"][..], 127, "no such file or directory"),
        (&["/etc"][..], 126, "is a directory"),
        (&["/etc/passwd"][..], 126, "permission denied"),
    ] {
        let output = bundle.words(words).run(Runtime::Ours);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{words:?}: {}", stderr(&output));
    }
}
