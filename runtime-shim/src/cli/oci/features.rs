//! `features`: what this runtime can do, as the specification's features.md has
//! it.

use clap::Args;
use serde_json::json;

use crate::failure::Result;
use crate::launch::CAPABILITIES;

/// Say what this runtime can do
#[derive(Args)]
pub struct Features {}

impl Features {
    /// Prints it.
    pub fn run(self) -> Result<u8> {
        super::list::print(&json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": crate::bundle::VERSION,
            "hooks": [
                "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
            ],
            "mountOptions": [
                "bind", "dev", "diratime", "exec", "idmap", "noatime", "nodev", "nodiratime", "noexec",
                "nosuid", "nosymfollow", "private", "rbind", "rdev", "rdiratime", "relatime", "rexec",
                "ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnosuid", "ro", "rprivate",
                "rro", "rrw", "rshared", "rslave", "rstrictatime", "rsuid", "runbindable", "rw", "shared",
                "slave", "strictatime", "suid", "symfollow", "tmpcopyup", "unbindable",
            ],
            "linux": {
                "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
                "capabilities": CAPABILITIES.as_slice(),
                "seccomp": {
                    "enabled": true,
                    "actions": [
                        "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                        "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                    ],
                    "operators": [
                        "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                        "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
                    ],
                    "archs": [match std::env::consts::ARCH {
                        "x86_64" => "SCMP_ARCH_X86_64",
                        _ => "SCMP_ARCH_AARCH64",
                    }],
                },
                "apparmor": { "enabled": true },
                "selinux": { "enabled": true },
                "mountExtensions": { "idmap": { "enabled": true } },
            },
        }))?;
        Ok(0)
    }
}
