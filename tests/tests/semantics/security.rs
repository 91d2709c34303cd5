//! What layers made by others, and other users, cannot do.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount};
use tests::mount::{Driver, Layers, Mount, enter_private_namespace};
use tests::scratch::{Backing, Scratch};
use tests::stage::put;

use crate::files::CAPABILITY;
use crate::scene::{Plan, answer, names, run, set_xattr, xattr, xattrs};

#[test]
fn s70_set_id_bits_of_a_nosuid_layer_mean_nothing() {
    let (own, foreign) = (Scratch::new(Backing::Tmpfs).unwrap(), Scratch::new(Backing::Tmpfs).unwrap());
    let [trusted, upper, work, merged] =
        ["trusted", "upper", "work", "merged"].map(|name| own.dir(name).unwrap());
    let lower = foreign.dir("lower").unwrap();
    for layer in [&lower, &trusted] {
        let name = layer.file_name().unwrap().to_str().unwrap();
        for kind in ["shown", "copied"] {
            let file = layer.join(format!("{name}-{kind}"));
            put(layer, file.to_str().unwrap(), "x").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o6755)).unwrap();
            set_xattr(&file, "security.capability", CAPABILITY).unwrap();
        }
    }
    mount_remount(foreign.path(), MountFlags::NOSUID, "").unwrap();
    let mount =
        Mount::new(Driver::under_test(), &Layers::writable(&[&lower, &trusted], &upper, &work), &merged)
            .unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    for name in ["lower-copied", "trusted-copied"] {
        // A change of metadata: writing would clear the bits anyway.
        set_xattr(&merged.join(name), "user.note", "x").unwrap();
    }
    let seen =
        ["lower-shown", "lower-copied", "trusted-shown", "trusted-copied"].map(|n| mode(&merged.join(n)));
    assert_eq!(seen, [0o755, 0o755, 0o6755, 0o6755]);
    assert_eq!([mode(&upper.join("lower-copied")), mode(&upper.join("trusted-copied"))], [0o755, 0o6755]);
    let capable = |name: &str| {
        let shown = xattr(&merged.join(name), "security.capability").is_ok();
        let listed = xattrs(&merged.join(name)).contains(&"security.capability".to_owned());
        assert_eq!(shown, listed, "{name}");
        shown
    };
    let seen = ["lower-shown", "lower-copied", "trusted-shown", "trusted-copied"].map(capable);
    assert_eq!(seen, [false, false, true, true]);
    assert!(xattr(&upper.join("lower-copied"), "security.capability").is_err());
    assert!(xattr(&upper.join("trusted-copied"), "security.capability").is_ok());
    mount.unmount().unwrap();
}

#[test]
fn s71_redirects_that_anybody_may_have_written_are_followed_on_demand() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [top, bottom, merged] = ["top", "bottom", "merged"].map(|name| scratch.dir(name).unwrap());
    put(&bottom, "secret/f", "x").unwrap();
    fs::create_dir(top.join("d")).unwrap();
    set_xattr(&top.join("d"), "user.overlay.redirect", "/secret").unwrap();
    let listed = |option: &str| {
        let layers = Layers::read_only(&[&top, &bottom]).with("userxattr").with(option);
        let mount = Mount::new(Driver::Runionfs, &layers, &merged).unwrap();
        let listed = answer(fs::read_dir(merged.join("d")).map(Iterator::count));
        mount.unmount().unwrap();
        listed
    };
    assert_eq!(listed("xino=on"), Err(Errno::PERM));
    assert_eq!(listed("redirect_dir=nofollow"), Err(Errno::PERM));
    assert_eq!(listed("redirect_dir=on"), Ok(1));
}

#[test]
fn s72_a_redirect_leads_nowhere_but_into_the_layers() {
    let plan = Plan::new(2, |l| {
        put(&l[1], "target/f", "x").unwrap();
        put(&l[1], "d/target/f", "x").unwrap();
        let redirects = [
            "/../target",
            "../target",
            "/target/",
            "//target",
            "target/f",
            "/./target",
            "",
            "/target",
            "target",
        ];
        for (number, redirect) in redirects.iter().enumerate() {
            let name = l[0].join(format!("d/{number}"));
            fs::create_dir_all(&name).unwrap();
            set_xattr(&name, "trusted.overlay.redirect", redirect).unwrap();
        }
    });
    plan.ours(|s| {
        for number in 0..7 {
            let found = answer(fs::metadata(s.at(&format!("d/{number}"))).map(drop));
            assert_eq!(found, Err(Errno::IO), "{number}");
        }
        assert_eq!(names(&s.at("d/7")), ["f"]);
        assert_eq!(names(&s.at("d/8")), ["f"]);
    });
}

#[test]
fn s73_a_metacopy_without_data_is_an_error() {
    let plan = Plan::new(2, |l| {
        put(&l[1], "other", "another file").unwrap();
        put(&l[1], "dir/f", "").unwrap();
        for (name, redirect) in [("gone", "/nowhere"), ("dir-data", "/dir"), ("beside", "")] {
            File::create(l[0].join(name)).unwrap().set_len(12).unwrap();
            set_xattr(&l[0].join(name), "trusted.overlay.metacopy", "").unwrap();
            if !redirect.is_empty() {
                set_xattr(&l[0].join(name), "trusted.overlay.redirect", redirect).unwrap();
            }
        }
    });
    let seen = plan.same(|s| {
        let read = |name: &str| answer(fs::read(s.at(name)));
        let opened = ["gone", "dir-data", "beside"].map(read);
        let written = answer(OpenOptions::new().write(true).open(s.at("gone")).map(drop));
        (opened, written, read("other"))
    });
    let failed = || Err(Errno::IO);
    assert_eq!(seen, ([failed(), failed(), failed()], Err(Errno::IO), Ok(b"another file".to_vec())));
}

#[test]
fn s74_set_id_programs_and_devices_work_only_when_asked_for() {
    enter_private_namespace().unwrap();
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [lower, merged] = ["lower", "merged"].map(|name| scratch.dir(name).unwrap());
    let flags = |more: &str| {
        let options = format!("lowerdir={}{more}", lower.display());
        let mut command = Command::new(tests::binary::mount_runionfs().unwrap());
        std::os::unix::process::CommandExt::arg0(&mut command, "runionfs");
        assert!(command.args(["-o", &options]).arg(&merged).status().unwrap().success());
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(merged.to_str().unwrap())).unwrap().to_owned();
        rustix::mount::unmount(&merged, UnmountFlags::empty()).unwrap();
        let options = line.split(' ').nth(5).unwrap().to_owned();
        ["nosuid", "nodev"].map(|flag| options.split(',').any(|option| option == flag))
    };
    assert_eq!(flags(""), [true, true]);
    assert_eq!(flags(",suid,dev"), [false, false]);
    assert_eq!(flags(",suid"), [false, true]);
}

#[test]
fn s75_what_a_user_made_is_not_run_or_read_as_more_than_it_is() {
    // From inside a user namespace, a capability for a file is one of that
    // namespace, never of the host.
    let plan = Plan::new(1, |l| {
        put(&l[0], "program", "x").unwrap();
        fs::set_permissions(l[0].join("program"), Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::chown(l[0].join("program"), Some(1000), Some(1000)).unwrap();
    });
    let seen = plan.same(|s| {
        fs::set_permissions(s.at(""), Permissions::from_mode(0o755)).unwrap();
        let program = s.at("program").display().to_string();
        let set = format!("setcap cap_net_raw+ep {program}");
        let arguments =
            ["--reuid=1000", "--regid=1000", "--clear-groups", "unshare", "-Ur", "sh", "-c", &set];
        assert!(run("setpriv", &arguments).0, "{:?}", s.driver);
        let plain = xattr(&s.upper("program"), "security.capability");
        // Version 3 carries the root of its namespace: it is void elsewhere.
        plain.map(|value| (value[3], value.len())).map_err(|_| ())
    });
    assert_eq!(seen, Ok((3, 24)), "a capability of version 2 is the host's");
}
