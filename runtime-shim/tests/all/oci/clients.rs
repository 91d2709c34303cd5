//! podman and buildah with both of ours: `runion` as their runtime, and
//! `runionfs` as their mount program; as root and as an ordinary user.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output};

use super::bundle::Bundle;
use crate::setup::{runion, stderr, stdout};

const USER: u32 = 48_769;

/// What both do; `$N` keeps off the network, `$I` makes buildah take a runtime.
const SCRIPT: &str = r#"
# An ordinary user's podman leaves a process that holds its namespaces.
trap 'kill -9 $(cat $XDG_RUNTIME_DIR/libpod/tmp/pause.pid 2> /dev/null) 2> /dev/null || true' EXIT
podman import -q -c 'CMD ["/bin/sh"]' ../box.tar box > /dev/null
podman info -f '{{.Store.GraphDriverName}} {{.Host.OCIRuntime.Name}}'
podman run -d --name one $N box sleep 100 > /dev/null
podman exec one sh -c 'echo x > /etc/new; rm /bin/mkfifo; id -u'; podman exec -u 1000 one id -u
podman diff one | sort; podman commit -q one mine > /dev/null; podman rm -f -t 0 one > /dev/null
podman run --rm $N mine sh -c 'cat /etc/new; test -e /bin/mkfifo || echo gone'
mkdir context; echo file > context/file
cat > context/Dockerfile <<END
FROM localhost/box
RUN mkdir -p /home/user && chown user /home/user && echo built > /built
COPY --chown=user file /home/user/file
USER user
RUN id -un > /home/user/who; rm /home/user/file
CMD ["cat", "/built", "/home/user/who"]
END
podman build -q $N -t built context > /dev/null; podman run --rm $N built
podman save -q -o saved.tar built; podman rmi -f built > /dev/null; podman load -q -i saved.tar; podman run --rm $N built
podman run --rm $N --mount type=image,source=built,target=/image built cat /image/built
podman run --rm $N -v $PWD/context:/over:O built sh -c 'ls /over'
buildah bud -q $N $I -t third context > /dev/null; podman run --rm $N third
C=$(buildah from localhost/box); buildah run $N $I $C -- sh -c 'echo ran > /ran; exit 3' 2> /dev/null || echo code $?
buildah copy -q $C context/file /copied > /dev/null; buildah config --cmd 'cat /ran /copied' $C
buildah commit -q $C fourth > /dev/null; buildah rm $C > /dev/null; podman run --rm $N fourth
"#;

const SAID: &str = "overlay runion\n0\n1000\nA /etc/new\nC /bin\nC /etc\nD /bin/mkfifo\nx\ngone\nbuilt\nuser\n\
    Loaded image: localhost/built:latest\nbuilt\nuser\nbuilt\nDockerfile\nfile\nbuilt\nuser\ncode 3\nran\nfile\n";

/// What is over at the end.
const END: &str = "
podman rmi -af > /dev/null 2>&1; podman ps -aq; grep -c \"$PWD\" /proc/self/mountinfo
";

/// Runs a script as a user, by number, with configurations of its own; gone with
/// its store.
fn as_user(bundle: &Bundle, user: u32, script: &str) -> Output {
    let dir = bundle.scratch.path();
    let (bin, home) = (bundle.scratch.join("bin"), bundle.scratch.join("home"));
    fs::create_dir(&bin).unwrap();
    fs::create_dir_all(home.join(".config/containers")).unwrap();
    for program in ["runion", "mount-runionfs"] {
        fs::copy(runion().with_file_name(program), bin.join(program)).unwrap();
    }
    symlink("mount-runionfs", bin.join("runionfs")).unwrap();
    let containers = format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:20000\", \"nproc=32768:32768\"]\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runion\"\n\
         [engine.runtimes]\nrunion = [\"{}\"]\n",
        bin.join("runion").display()
    );
    let store = home.join("images");
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}\"\nrootless_storage_path = \"{0}\"\nrunroot = \"/run/user/{user}/run\"\n\
         [storage.options.overlay]\nmount_program = \"{1}\"\n",
        store.display(),
        bin.join("runionfs").display()
    );
    fs::write(dir.join("containers.conf"), containers).unwrap();
    fs::write(dir.join("storage.conf"), storage).unwrap();
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    fs::write(home.join(".config/containers/policy.json"), policy).unwrap();
    fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    let prelude = format!(
        "set -e; umount /sys/fs/cgroup/unified 2>/dev/null || true; cd {dir}; tar -C b/rootfs -cf box.tar .; chown -R {user}:{user} home
         mkdir node; mount -t tmpfs node node; mount -t tmpfs tmpfs /run; mkdir -p -m 700 /run/user/{user}; chown {user} /run/user/{user}
         mknod -m 666 node/fuse c 10 229; mount --bind node/fuse /dev/fuse
         if [ {user} != 0 ]; then
             (cat /etc/passwd; echo 'tried:x:{user}:{user}::/:/bin/sh') > node/passwd; mount --bind node/passwd /etc/passwd
             (cat /etc/group; echo 'tried:x:{user}:') > node/group; mount --bind node/group /etc/group
             echo 'tried:600000:65536' > node/subids; for f in /etc/subuid /etc/subgid; do mount --bind node/subids $f; done
         fi
         cd home; exec setpriv --reuid {user} --regid {user} --clear-groups sh -ec \"$1\"",
        dir = dir.display(),
    );
    let mut command = Command::new("timeout");
    command.args(["200", "unshare", "--net", "--mount", "--propagation", "private", "sh", "-c"]);
    command
        .args([&prelude, "sh", script])
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", format!("/run/user/{user}"))
        .env("CONTAINERS_CONF", dir.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"))
        .env("N", "--network none")
        .env("I", format!("--isolation oci --runtime {}", bin.join("runion").display()))
        .output()
        .unwrap()
}

fn are_here() -> bool {
    let missing = ["podman", "conmon", "buildah", "newuidmap"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_err());
    if let Some(name) = missing {
        println!("skipped: no {name} (apt-get install podman conmon buildah uidmap)");
    }
    missing.is_none()
}

#[test]
fn they_build_run_and_keep_images_as_root() {
    let Some(bundle) = Bundle::new("clients") else { return };
    if !are_here() {
        return;
    }
    let output = as_user(&bundle, 0, &format!("{SCRIPT}{END}"));
    assert_eq!(stdout(&output), format!("{SAID}0\n"), "{}", stderr(&output));
}

#[test]
fn they_build_run_and_keep_images_as_an_ordinary_user() {
    let Some(bundle) = Bundle::new("clients-user") else { return };
    if !are_here() {
        return;
    }
    // And with ids of a container's own: none is copied.
    let more = "for map in '--uidmap 0:1:2000 --gidmap 0:1:2000' --userns=keep-id; do
        podman run --rm $N $map built sh -c 'id -un; stat -c %u /built /home/user/who; head -1 /proc/self/uid_map'
        done; du -s images/overlay/*/diff | awk '{ n += $1 } END { print n < 8000 }'\n";
    let output = as_user(&bundle, USER, &format!("{SCRIPT}{more}{END}"));
    let maps = "user\n0\n1000\n         0          1       2000\nuser\n0\n1000\n         0          1      48769\n1\n";
    assert_eq!(stdout(&output), format!("{SAID}{maps}0\n"), "{}", stderr(&output));
}

/// Containers with ranges of ids that podman chooses.
const AUTO: &str = "
podman import -q -c 'CMD [\"/bin/sh\"]' ../box.tar box > /dev/null
podman run --rm $N --userns=auto:size=3000 box sh -c 'cat /proc/self/uid_map; touch /x; stat -c %u /bin /x'
for name in one two; do podman run -d --name $name --userns=auto $N box sleep 100 > /dev/null; done
podman exec one cat /proc/self/uid_map; podman exec two cat /proc/self/uid_map
podman exec one sh -c 'echo x > /etc/new; chown 7:8 /etc/new'; podman stop -t 0 one > /dev/null
podman diff one | sort; podman commit -q one mine > /dev/null
podman run --rm $N --userns=auto mine stat -c %u:%g /etc/new /bin; podman rm -f -t 0 one two > /dev/null
";

/// As root podman 4.3 does not get that far with any runtime: see docs/TESTING.md.
#[test]
fn podman_gives_an_ordinary_user_s_containers_ids_of_their_own() {
    let Some(bundle) = Bundle::new("clients-auto") else { return };
    if !are_here() {
        return;
    }
    let output = as_user(&bundle, USER, &format!("{AUTO}{END}"));
    let range = |first: u32, size: u32| format!("{:10} {first:10} {size:10}\n", 0);
    let maps = format!("{}0\n0\n{}{}", range(1, 3000), range(1, 1024), range(1025, 1024));
    let said = format!("{maps}A /etc/new\nC /etc\n7:8\n0:0\n0\n");
    assert_eq!(stdout(&output), said, "{}", stderr(&output));
}
