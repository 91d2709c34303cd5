//! Filters of system calls: each action, each comparison, and whole profiles
//! beside crun and runc.

use serde_json::{Value, json};

use super::bundle::{Bundle, Runtime, has};
use crate::setup::{stderr, stdout};

/// A bundle with the host's programs, where python3 is.
fn over_host(test: &str) -> Option<Bundle> {
    let mut bundle = Bundle::new(test)?;
    if !std::path::Path::new("/usr/bin/python3").exists() {
        println!("skipped: no /usr/bin/python3 (apt-get install python3-minimal)");
        return None;
    }
    for name in ["lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), bundle.root().join(name)).unwrap();
    }
    bundle.mount(
        json!({ "destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"] }),
    );
    Some(bundle)
}

/// Has python make calls, by numbers, with six arguments; each answers with an
/// errno, a signal or "ok".
fn probe(bundle: &mut Bundle, calls: &[(i64, [u64; 6])]) {
    let calls: Vec<String> =
        calls.iter().map(|(number, arguments)| format!("({number},{arguments:?})")).collect();
    let script = format!(
        "import ctypes, os\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         for number, arguments in [{}]:\n\
         \x20   pid = os.fork()\n\
         \x20   if pid == 0:\n\
         \x20       words = [ctypes.c_ulong(word) for word in arguments]\n\
         \x20       result = libc.syscall(ctypes.c_long(number), *words)\n\
         \x20       os._exit(ctypes.get_errno() if result == -1 else 0)\n\
         \x20   status = os.waitpid(pid, 0)[1]\n\
         \x20   print(number, arguments[0], arguments[2], os.waitstatus_to_exitcode(status))\n",
        calls.join(",")
    );
    bundle.words(&["/usr/bin/python3", "-c", &script]);
}

fn same(bundle: &Bundle, what: &str) -> String {
    let ours = bundle.run(Runtime::Ours);
    assert!(ours.status.success(), "{what}: {}{}", stdout(&ours), stderr(&ours));
    for other in [Runtime::Crun, Runtime::Runc].into_iter().filter(|one| has(*one)) {
        let theirs = bundle.run(other);
        let pairs = stdout(&ours).lines().zip(stdout(&theirs).lines());
        let differing: Vec<_> = pairs.filter(|(one, other)| one != other).collect();
        assert!(differing.is_empty(), "{what}: ours, and {other:?}'s: {differing:?}");
        assert_eq!(stdout(&ours), stdout(&theirs), "{what}: {other:?}: {}", stderr(&theirs));
    }
    stdout(&ours).to_owned()
}

fn allow_but(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [machine()], "syscalls": rules })
}

fn machine() -> &'static str {
    if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" }
}

/// A call that changes nothing, with no argument of a meaning.
const HARMLESS: i64 = libc::SYS_getpriority;

#[test]
fn each_comparison_is_libseccomp_s() {
    let Some(mut bundle) = over_host("comparisons") else { return };
    for op in ["NE", "LT", "LE", "EQ", "GE", "GT"] {
        bundle.config["linux"]["seccomp"] = allow_but(json!([{
            "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
            "args": [{ "index": 2, "value": 0x1_0000_0005_u64, "op": format!("SCMP_CMP_{op}") }],
        }]));
        let values = [0, 4, 5, 6, 0x1_0000_0004, 0x1_0000_0005, 0x1_0000_0006, 0x2_0000_0000];
        let calls: Vec<_> = values.iter().map(|value| (HARMLESS, [0, 0, *value, 0, 0, 0])).collect();
        probe(&mut bundle, &calls);
        let said = same(&bundle, op);
        assert!(said.contains(" 77\n") && said.contains(" 0\n"), "{op}: {said}");
    }
    bundle.config["linux"]["seccomp"] = allow_but(json!([
        {
            "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78,
            "args": [{ "index": 2, "value": 0xf0, "valueTwo": 0x30, "op": "SCMP_CMP_MASKED_EQ" }],
        },
        // All must hold; and of one argument named twice, any.
        {
            "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 79,
            "args": [
                { "index": 2, "value": 7, "op": "SCMP_CMP_EQ" }, { "index": 3, "value": 8, "op": "SCMP_CMP_EQ" },
            ],
        },
        {
            "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 80,
            "args": [
                { "index": 2, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 2, "value": 2, "op": "SCMP_CMP_EQ" },
            ],
        },
    ]));
    let calls = [
        [0, 0, 0x3f, 0, 0, 0],
        [0, 0, 0x40, 0, 0, 0],
        [0, 0, 7, 8, 0, 0],
        [0, 0, 7, 9, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 2, 0, 0, 0],
        [0, 0, 3, 0, 0, 0],
    ];
    probe(&mut bundle, &calls.map(|arguments| (HARMLESS, arguments)));
    let said = same(&bundle, "several");
    for number in [78, 79, 80, 0] {
        assert!(said.contains(&format!(" {number}\n")), "{number}: {said}");
    }
}

#[test]
fn each_action_is_libseccomp_s() {
    let Some(mut bundle) = over_host("actions") else { return };
    for action in ["ALLOW", "ERRNO", "KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "TRACE", "LOG"] {
        bundle.config["linux"]["seccomp"] = allow_but(json!([
            { "names": ["getpriority", "no_such_call"], "action": format!("SCMP_ACT_{action}") },
            { "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99 },
        ]));
        probe(&mut bundle, &[(HARMLESS, [0; 6]), (libc::SYS_getpgid, [0; 6]), (libc::SYS_getsid, [0; 6])]);
        same(&bundle, action);
    }
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 55,
        "syscalls": [
            { "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99 },
            { "names": all_but(&["getsid", "getpgid"]), "action": "SCMP_ACT_ALLOW" },
        ],
    });
    probe(&mut bundle, &[(HARMLESS, [0; 6]), (libc::SYS_getpgid, [0; 6]), (libc::SYS_getsid, [0; 6])]);
    let said = same(&bundle, "by default");
    assert!(said.contains(" 55\n") && said.contains(" 99\n"), "{said}");
    for (what, profile) in [
        ("SCMP_ACT_NOTIFY", allow_but(json!([{ "names": ["read"], "action": "SCMP_ACT_NOTIFY" }]))),
        ("listener", json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x" })),
        (
            "SCMP_CMP_X",
            allow_but(json!([{ "names": ["read"], "action": "SCMP_ACT_TRAP",
            "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_X" }] }])),
        ),
    ] {
        bundle.config["linux"]["seccomp"] = profile;
        let output = bundle.run(Runtime::Ours);
        assert_eq!(output.status.code(), Some(125), "{what}");
        assert!(stderr(&output).contains(what), "{what}: {}", stderr(&output));
    }
}

/// What python needs, and more.
fn all_but(names: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/launch/seccomp/profile.rs"))
        .unwrap();
    let listed = text.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
    listed
        .filter(|name| !names.contains(name))
        .map(str::to_owned)
        .chain(["clone".into(), "clone3".into(), "socket".into()])
        .collect()
}

#[test]
fn podman_s_profile_denies_and_allows_as_libseccomp_does() {
    let Some(mut bundle) = over_host("podman-profile") else { return };
    let Ok(text) = std::fs::read("/usr/share/containers/seccomp.json") else {
        println!(
            "skipped: no /usr/share/containers/seccomp.json (apt-get install golang-github-containers-common)"
        );
        return;
    };
    let profile: Value = serde_json::from_slice(&text).unwrap();
    let capabilities = ["CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE"];
    let applies = |rule: &&Value| {
        let among = |list: &Value, key: &str, own: &[&str]| {
            list[key].as_array().map(|words| words.iter().any(|word| own.contains(&word.as_str().unwrap())))
        };
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        among(includes, "caps", &capabilities).unwrap_or(true)
            && among(includes, "arches", &["amd64"]).unwrap_or(true)
            && !among(excludes, "caps", &capabilities).unwrap_or(false)
    };
    let rules: Vec<Value> = profile["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .filter(applies)
        .map(|rule| {
            let mut rule = rule.clone();
            let fields = rule.as_object_mut().unwrap();
            fields.retain(|key, value| {
                ["names", "action", "errnoRet", "args"].contains(&key.as_str()) && !value.is_null()
            });
            rule
        })
        .collect();
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": [machine()], "syscalls": rules,
    });
    bundle.config["process"]["capabilities"] =
        json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities });
    let calls: Vec<_> = SAFE.iter().map(|number| (*number, [u64::MAX; 6])).collect();
    probe(&mut bundle, &calls);
    let said = same(&bundle, "podman's");
    assert!(said.contains(" 38\n") && said.contains(" 1\n"), "{said}");
    let sockets = [[16, 3, 9, 0, 0, 0], [16, 3, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0]];
    let ways = [0, 8, 0x20000, 0xffff_ffff, 0x40000].map(|way| (libc::SYS_personality, [way, 0, 0, 0, 0, 0]));
    probe(&mut bundle, &[&sockets.map(|arguments| (libc::SYS_socket, arguments))[..], &ways].concat());
    same(&bundle, "podman's arguments");
}

/// Calls that do nothing with arguments of all ones but answer.
const SAFE: [i64; 44] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_mmap,
    libc::SYS_ioctl,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_dup,
    libc::SYS_sendfile,
    libc::SYS_connect,
    libc::SYS_accept,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchmod,
    libc::SYS_umount2,
    libc::SYS_mount,
    libc::SYS_pivot_root,
    libc::SYS_swapon,
    libc::SYS_init_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_setns,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_io_uring_setup,
    libc::SYS_open_by_handle_at,
    libc::SYS_chroot,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_process_madvise,
    libc::SYS_mbind,
    libc::SYS_quotactl,
];

/// Calls of 32-bit programs and of the x32 ABI, out of python by instructions.
const OTHER_MACHINES: &str = "\
import ctypes, mmap, os
page = mmap.mmap(-1, 4096, prot=7)
def call(number):
    page.seek(0)
    page.write(b'\\x53\\xb8' + number.to_bytes(4, 'little') + b'\\x31\\xdb\\xcd\\x80\\x5b\\xc3')
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
def tell(what, do):
    pid = os.fork()
    if pid == 0:
        result = do()
        os._exit(-result if -134 < result < 0 else 0)
    print(what, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
for name, number in [('getpid', 20), ('getppid', 64), ('getuid', 24), ('getpgrp', 65), ('sync', 36)]:
    tell(name, lambda: call(number))
libc = ctypes.CDLL(None, use_errno=True)
def x32(number):
    return -ctypes.get_errno() if libc.syscall(ctypes.c_long(0x40000000 | number)) == -1 else 0
tell('x32', lambda: x32(39))
tell('none', lambda: -ctypes.get_errno() if libc.syscall(ctypes.c_long(-1)) == -1 else 0)
";

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_other_machines_are_filtered_if_listed_and_killed_if_not() {
    let Some(mut bundle) = over_host("machines") else { return };
    bundle.words(&["/usr/bin/python3", "-c", OTHER_MACHINES]);
    let rules = json!([
        { "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 66 },
        { "names": ["getpgrp"], "action": "SCMP_ACT_TRAP" },
    ]);
    for listed in [&["SCMP_ARCH_X86_64"][..], &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]] {
        bundle.config["linux"]["seccomp"] =
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": listed, "syscalls": rules });
        let said = same(&bundle, "denied");
        assert!(said.contains("x32 -31"), "{said}");
        assert_eq!(said.contains("getppid 66"), listed.len() == 2, "{said}");
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 77, "architectures": listed,
            "syscalls": [{ "names": all_but(&["getuid"]), "action": "SCMP_ACT_ALLOW" }],
        });
        let said = same(&bundle, "allowed");
        assert_eq!(said.contains("getuid 77") && said.contains("getpid 0"), listed.len() == 2, "{said}");
    }
}
