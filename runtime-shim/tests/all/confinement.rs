//! What a command sees and may do in its view.

use crate::setup::{Scratch, busybox_root, can_mount, stderr, stdout};

#[test]
fn it_has_its_own_processes_and_kernel_files_are_read_only() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("kernel");
    let output = scratch.sh(
        &[],
        "ls -d /proc/[0-9]* | wc -l; test -d /proc/1 || echo no init; \
         echo x > /proc/sys/kernel/hostname; echo s > /proc/sysrq-trigger; mkdir /sys/fs/cgroup/x; \
         chmod 777 /dev/null; mount -t tmpfs x /mnt; umount /proc/sys; mount -o remount,rw /sys; \
         hostname changed; test -r /proc/1/fd/3 && echo leak; true",
    );
    let count: u32 = stdout(&output).lines().next().unwrap().trim().parse().unwrap();
    assert!(count < 8, "it sees {count} processes");
    assert_eq!(stdout(&output).lines().count(), 1, "{}", stdout(&output));
    for refused in ["/proc/sys/kernel/hostname", "/sys/fs/cgroup/x", "/dev/null"] {
        let said = stderr(&output).lines().any(|line| line.contains(refused) && line.contains("ead-only"));
        assert!(said, "{refused}: {}", stderr(&output));
    }
    for refused in ["mount: ", "umount: ", "hostname: "] {
        assert!(
            stderr(&output).lines().any(|line| line.starts_with(refused)),
            "{refused}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn only_harmless_devices_are_there_and_new_ones_are_dead() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("devices");
    let output = scratch.sh(
        &["-q"],
        "for d in /dev/*; do test -b $d && echo block; test -c $d && printf '%s ' ${d#/dev/}; done; \
         for d in /tmp /dev/shm; do mknod $d/node c 1 3 && ! cat $d/node 2>/dev/null || echo alive in $d; done; \
         echo ok > /dev/null && head -c 4 /dev/zero | wc -c; python3 -c 'import os; os.openpty()' && echo pty",
    );
    let listed = stdout(&output).lines().next().unwrap();
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        assert!(listed.split(' ').any(|name| name == device), "{listed}");
    }
    for device in ["vda", "sda", "mem", "kmsg", "loop-control"] {
        assert!(!listed.split(' ').any(|name| name == device), "{listed}");
    }
    assert!(listed.ends_with("4"), "{listed}: {}", stderr(&output));
}

#[test]
fn the_upper_is_not_in_the_view() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("hidden");
    let output = scratch.sh(&["-q"], &format!("ls -A {}; echo end", scratch.state().display()));
    assert_eq!(stdout(&output), "end\n");
}

#[test]
fn descriptors_of_the_caller_do_not_reach_the_command() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("descriptors");
    let try_ = scratch.try_(&["-q", "--", "sh", "-c", "ls /proc/self/fd; ls /proc/1/fd | wc -l"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec 7</ 8</etc/passwd; exec \"$@\"", "sh"]);
    command.arg(try_.get_program()).args(try_.get_args()).env("TMPDIR", scratch.state());
    let output = command.output().unwrap();
    // 3 is ls's own look at the directory.
    assert_eq!(stdout(&output), "0\n1\n2\n3\n3\n", "{}", stderr(&output));
}

#[test]
fn other_lowers_become_the_root() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("lower");
    let (root, data) = (scratch.join("root"), scratch.join("data:,"));
    if let Err(reason) = busybox_root(&root) {
        println!("skipped: {reason}");
        return;
    }
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "data").unwrap();
    let lowers = ["--lower", data.to_str().unwrap(), "--lower", root.to_str().unwrap()];
    let output = scratch
        .try_(
            &[&lowers[..], &["--", "/bin/sh", "-c", "pwd; ls /; cat /file; echo >> /file; rm /bin/ls"]]
                .concat(),
        )
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "/\nbin\ndev\nfile\nproc\nsys\ndata");
    assert_eq!(stderr(&output), "C /bin\nD /bin/ls\nC /file\n");
    assert_eq!(std::fs::read_to_string(data.join("file")).unwrap(), "data");

    let absent = scratch.try_(&["--lower", data.to_str().unwrap(), "--", "sh"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(127));
    assert!(stderr(&absent).contains("hint: with --lower the command itself"), "{}", stderr(&absent));

    std::os::unix::fs::symlink("/tmp", data.join("dev")).unwrap();
    let linked = scratch.try_(&[&lowers[..], &["--", "/bin/sh"]].concat()).output().unwrap();
    assert_eq!(linked.status.code(), Some(125));
    assert!(stderr(&linked).contains("its /dev is not a directory"), "{}", stderr(&linked));
}
