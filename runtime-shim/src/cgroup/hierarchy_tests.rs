//! Texts of real machines.

use super::*;

fn at(top: &str, own: Option<&str>) -> Mounted {
    Mounted { top: top.into(), own: own.map(PathBuf::from) }
}

fn v1_of(found: &Hierarchy, controller: Controller) -> &Mounted {
    &found.v1.iter().find(|v1| v1.controllers.contains(&controller)).unwrap().mounted
}

/// Fedora, with systemd: an ordinary user's terminal.
#[test]
fn v2_with_systemd() {
    let mountinfo = b"22 26 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw\n\
        23 26 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n\
        26 1 253:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    let cgroup = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope\n";
    let found = Hierarchy::of(mountinfo, cgroup);
    let own = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope";
    assert_eq!(found, Hierarchy { v1: vec![], v2: Some(at("/sys/fs/cgroup", Some(own))) });
    assert_eq!(found.kind(), Kind::V2);
}

/// CentOS 7: several controllers in one hierarchy.
#[test]
fn v1_with_systemd() {
    let mountinfo = b"17 40 0:17 / /sys rw,nosuid,nodev,noexec,relatime shared:6 - sysfs sysfs rw\n\
        24 17 0:21 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:8 - tmpfs tmpfs ro,mode=755\n\
        25 24 0:22 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:9 - cgroup cgroup rw,xattr,release_agent=/usr/lib/systemd/systemd-cgroups-agent,name=systemd\n\
        27 24 0:24 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:10 - cgroup cgroup rw,cpuacct,cpu\n\
        28 24 0:25 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,memory\n\
        29 24 0:26 / /sys/fs/cgroup/net_cls,net_prio rw,nosuid,nodev,noexec,relatime shared:12 - cgroup cgroup rw,net_prio,net_cls\n\
        40 1 253:0 / / rw,relatime shared:1 - xfs /dev/mapper/root rw\n";
    let cgroup = "4:net_prio,net_cls:/\n3:memory:/user.slice\n2:cpuacct,cpu:/user.slice\n\
        1:name=systemd:/user.slice/user-0.slice/session-3.scope\n";
    let found = Hierarchy::of(mountinfo, cgroup);
    assert_eq!(found.kind(), Kind::V1);
    assert_eq!(found.v1.len(), 4);
    let cpu = at("/sys/fs/cgroup/cpu,cpuacct", Some("/sys/fs/cgroup/cpu,cpuacct/user.slice"));
    assert_eq!(v1_of(&found, Controller::Cpu), &cpu);
    assert_eq!(v1_of(&found, Controller::Accounting), &cpu);
    assert_eq!(v1_of(&found, Controller::NetworkClass).top, Path::new("/sys/fs/cgroup/net_cls,net_prio"));
    assert!(v1_of(&found, Controller::Systemd).own.as_ref().unwrap().ends_with("session-3.scope"));
}

/// Controllers on v1, and v2 beside them.
#[test]
fn hybrid() {
    let mountinfo = b"23 27 0:22 / /sys rw,relatime - sysfs sysfs rw\n\
        27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let found = Hierarchy::of(mountinfo, "4:memory:/job/c016\n2:cpuacct:/\n0::/\n");
    assert_eq!(found.kind(), Kind::Hybrid);
    assert_eq!(
        v1_of(&found, Controller::Memory).own.as_deref(),
        Some(Path::new("/sys/fs/cgroup/memory/job/c016"))
    );
    assert_eq!(found.v2, Some(at("/sys/fs/cgroup/unified", Some("/sys/fs/cgroup/unified"))));
}

/// systemd's tracking alone is no limit.
#[test]
fn v2_beside_systemd_s_own_v1_is_v2() {
    let mountinfo = b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:2 / /sys/fs/cgroup rw - cgroup2 b rw\n\
        3 1 0:3 / /mnt/systemd rw - cgroup c rw,xattr,name=systemd\n";
    let found = Hierarchy::of(mountinfo, "1:name=systemd:/\n0::/\n");
    assert_eq!(found.kind(), Kind::V2);
    assert_eq!(Hierarchy::of(b"", "0::/\n").kind(), Kind::Nothing);
}

/// docker on v1 shows a container its own part of each hierarchy.
#[test]
fn in_a_container_of_v1() {
    let id = "0123abc";
    let mountinfo = format!(
        "900 800 0:60 / / rw,relatime - overlay overlay rw\n\
         901 900 0:63 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro\n\
         902 901 0:64 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755\n\
         903 902 0:32 /docker/{id} /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:15 - cgroup cgroup rw,memory\n"
    );
    let found = Hierarchy::of(mountinfo.as_bytes(), &format!("4:memory:/docker/{id}/sub\n"));
    assert_eq!(
        v1_of(&found, Controller::Memory),
        &at("/sys/fs/cgroup/memory", Some("/sys/fs/cgroup/memory/sub"))
    );
    // A part that the caller is not in.
    let found = Hierarchy::of(mountinfo.as_bytes(), "4:memory:/docker/other\n");
    assert_eq!(v1_of(&found, Controller::Memory), &at("/sys/fs/cgroup/memory", None));
}

/// With a cgroup namespace, what is outside of it is above the root.
#[test]
fn in_a_container_of_v2() {
    let mountinfo = b"900 800 0:60 / / rw,relatime - overlay overlay rw\n\
        901 900 0:63 / /sys ro - sysfs sysfs ro\n\
        903 901 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n";
    let found = Hierarchy::of(mountinfo, "0::/\n");
    assert_eq!(found.v2, Some(at("/sys/fs/cgroup", Some("/sys/fs/cgroup"))));
    let found = Hierarchy::of(mountinfo, "0::/../other\n");
    assert_eq!(found.v2, Some(at("/sys/fs/cgroup", None)));
}

/// A mount on top of another hides it and what was mounted there.
#[test]
fn hidden_mounts_are_not_used() {
    let mountinfo = b"27 1 254:0 / / rw - ext4 /dev/vda rw\n\
        31 27 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 old rw\n\
        50 31 0:50 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        51 50 0:38 / /sys/fs/cgroup/v\\0402 rw - cgroup2 new rw\n";
    let found = Hierarchy::of(mountinfo, "0::/x\n");
    assert_eq!(found.v2, Some(at("/sys/fs/cgroup/v 2", Some("/sys/fs/cgroup/v 2/x"))));
    // An initial RAM disk's mounts were moved over the root that came later.
    let moved = b"50 1 254:0 / / rw - ext4 /dev/vda rw\n22 50 0:22 / /sys rw - sysfs s rw\n\
        23 22 0:38 / /sys/fs/cgroup rw - cgroup2 c rw\n";
    assert_eq!(Hierarchy::of(moved, "0::/\n").v2, Some(at("/sys/fs/cgroup", Some("/sys/fs/cgroup"))));
}

/// This very machine's, whatever it is.
#[test]
fn this_machine_s_groups_exist() {
    let found = Hierarchy::find().unwrap();
    for mounted in found.v1.iter().map(|v1| &v1.mounted).chain(&found.v2) {
        assert!(mounted.top.join("cgroup.procs").exists(), "{mounted:?}");
        assert!(mounted.own.as_ref().is_none_or(|own| own.join("cgroup.procs").exists()), "{mounted:?}");
    }
}
