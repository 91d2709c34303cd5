//! Volumes, `cp`, `diff`, `commit` and `export` where a container's ids are not
//! the host's: of an ordinary user, and in a user namespace of root's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use crate::setup::{runion, stderr, stdout};
use crate::world::World;

const USER: u32 = 48_767;

/// Runs a shell line as an ordinary user with subordinate ids; `$R` is `runion`
/// with a store of the user's, `$N` what its containers are run with.
pub fn as_user(world: &World, line: &str) -> Output {
    as_user_with(world, "tried:600000:65536", line)
}

/// The same with these in /etc/subuid and /etc/subgid.
fn as_user_with(world: &World, ids: &str, line: &str) -> Output {
    let dir = world.scratch.path();
    let (bin, home) = (dir.join("bin"), dir.join("home"));
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        for program in ["runion", "mount-runionfs"] {
            fs::copy(runion().with_file_name(program), bin.join(program)).unwrap();
        }
        fs::create_dir(&home).unwrap();
        chown(&home, Some(USER), Some(USER)).unwrap();
        fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let script = format!(
        "set -e; cd {dir}; mkdir -p node; mount -t tmpfs node node; mknod -m 666 node/fuse c 10 229
         mknod -m 604 node/open c 1 5; mknod -m 600 node/closed c 1 5; mkdir node/more; mknod -m 666 node/more/full c 1 7
         (cat /etc/passwd; echo 'tried:x:{USER}:{USER}::/:/bin/sh') > node/passwd; echo '{ids}' > node/subids
         mount --bind node/fuse /dev/fuse; mount --bind node/passwd /etc/passwd
         if [ -e /dev/net/tun ]; then mknod -m 666 node/tun c 10 200; mount --bind node/tun /dev/net/tun; fi
         for f in /etc/subuid /etc/subgid; do mount --bind node/subids $f; done
         cd {home}; exec setpriv --reuid {USER} --regid {USER} --clear-groups sh -ec \"$1\"",
        dir = dir.display(),
        home = home.display(),
    );
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh", line])
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("R", format!("{} --root {}/store", bin.join("runion").display(), home.display()))
        .env("N", "--network none")
        .env_remove("XDG_CACHE_HOME")
        .output()
        .unwrap()
}

#[test]
fn of_an_ordinary_user() {
    let Some(world) = World::new("ids-user") else { return };
    if !has_subordinate_ids() {
        return;
    }
    let line = "$R import ../root.tar box > /dev/null
        $R run --rm $N -v vol:/etc box sh -c 'stat -c \"%u:%g %a\" /etc/passwd; chown 33:33 /etc/passwd; chmod 600 /etc/passwd'
        $R run --rm $N -v vol:/mnt box stat -c '%u:%g %a' /mnt/passwd
        $R run --name one $N box sh -c 'echo x > /etc/new; chown 44:45 /etc/new; chmod 600 /etc/new; rm /data/file'
        $R diff one
        $R commit one got > /dev/null; $R run --rm $N got stat -c '%u:%g %a' /etc/new
        $R cp one:/etc/new new; stat -c %u new; cat new
        $R cp new one:/tmp/in; $R cp one:/tmp/in - | tar -tvn | cut -d' ' -f2
        $R export one | tar -tvn | grep ' etc/new' | cut -d' ' -f2";
    let output = as_user(&world, line);
    let expected = format!(
        "0:0 644\n33:33 600\nC /data\nD /data/file\nC /etc\nA /etc/new\n44:45 600\n{USER}\nx\n0/0\n44/45\n"
    );
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    let line = "$R run -d --name two $N -v vol:/mnt box sh -c \
                'echo y > /tmp/y; chown 5:6 /tmp/y; while :; do sleep 0.1; done' > /dev/null
        while ! $R export two | tar -tvn | grep -q '5/6.* tmp/y'; do sleep 0.1; done
        $R cp two:/mnt/passwd got; cat got; $R cp got two:/mnt/new; $R cp two:/mnt/new - | tar -tvn | cut -d' ' -f2
        $R diff two; $R commit two got2 > /dev/null; $R run --rm $N got2 stat -c '%u:%g' /tmp/y
        $R cp -a two:/tmp/y kept || echo refused; $R volume rm vol || echo used
        $R rm -f two one > /dev/null; $R volume rm vol; ls store/volumes | wc -l";
    let output = as_user(&world, line);
    assert_eq!(
        stdout(&output),
        "root:x:0:0::/root:/bin/sh\nuser:x:7:8::/home/user:/bin/sh\n0/0\nA /mnt\nC /tmp\nA /tmp/y\n5:6\nrefused\nused\nvol\n0\n",
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("only root gives files away"), "{}", stderr(&output));
}

#[test]
fn a_command_joins_an_ordinary_user_s_container_as_one_of_its_users() {
    let Some(world) = World::new("ids-exec") else { return };
    if !Path::new("/usr/bin/newuidmap").exists() {
        println!("skipped: no newuidmap (apt-get install uidmap)");
        return;
    }
    let line = "$R import ../root.tar box > /dev/null
        $R run -d --name one $N -u user --health-cmd id --health-interval 100ms box \
            sh -c 'while :; do sleep 0.1; done' > /dev/null
        while ! $R ps | grep -q '(healthy)'; do sleep 0.1; done
        $R inspect -f '{{with index .State.Health.Log 0}}{{.Output}}{{end}}' one
        for who in '' '-u 7' '-u user:own' '-u 0'; do $R exec $who one sh -c 'id; echo $HOME'; done
        $R exec -u nosuch one id || echo code $?; $R rm -f one > /dev/null";
    let output = as_user(&world, line);
    let user = "uid=7(user) gid=8(own) groups=8(own),9(more)\n/home/user\n";
    let expected = format!(
        "uid=7(user) gid=8(own) groups=8(own),9(more)\n\n{user}{user}\
         uid=7(user) gid=8(own) groups=8(own)\n/home/user\n\
         uid=0(root) gid=0(root) groups=0(root)\n/root\ncode 126\n"
    );
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    assert!(
        stderr(&output).ends_with("unable to find user nosuch: no matching entries in the image's tables\n")
    );
}

#[test]
fn in_a_user_namespace_of_root_s() {
    let Some(world) = World::new("ids-root") else { return };
    let maps = ["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"];
    let told = world.sh(
        &[&maps[..], &["-v", "vol:/data", "-v", "none:/none"]].concat(),
        "stat -c '%u:%g' /data /data/sub /none; touch /data/mine /none/mine",
    );
    assert_eq!(told, "0:0\n7:8\n0:0\n");
    let on_disk = |path: &str| {
        let stat = fs::metadata(world.store().join("volumes").join(path)).unwrap();
        (stat.uid(), stat.gid())
    };
    let mode = fs::metadata(world.store().join("volumes/vol")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o700, "nobody else comes to what is set-user-id in a volume");
    assert_eq!(on_disk("vol/_data/sub"), (100_007, 200_008));
    assert_eq!(on_disk("none/_data/mine"), (100_000, 200_000));
    let line = "echo x > /etc/new; chown 44:45 /etc/new; while :; do sleep 0.1; done";
    world.makes("run", &[&["-d", "--name", "one"], &maps[..], &["box", "sh", "-c", line]].concat());
    while !world.says(&["diff", "one"]).contains("new") {}
    let file = world.write("file", "A");
    for running in [true, false] {
        world.says(&["cp", file.to_str().unwrap(), "one:/tmp/in"]);
        world.says(&["cp", "-a", "one:/etc/new", &world.path("kept")]);
        world.says(&["cp", "-a", "one:/tmp/in", &world.path("plain")]);
        let ids = |name: &str| {
            let stat = fs::metadata(world.path(name)).unwrap();
            (stat.uid(), stat.gid())
        };
        assert_eq!((ids("kept"), ids("plain")), ((44, 45), (0, 0)), "running: {running}");
        let name = format!("got{running}").to_lowercase();
        world.says(&["commit", "one", &name]);
        let told = world.makes("run", &["--rm", &name, "stat", "-c", "%u:%g", "/etc/new", "/tmp/in"]);
        assert_eq!(told, "44:45\n0:0\n", "running: {running}");
        world.says(&["export", "-o", &world.path("all.tar"), "one"]);
        let tar = Command::new("tar")
            .args(["-tvnf", &world.path("all.tar"), "etc/new", "tmp/in"])
            .output()
            .unwrap();
        let owners: Vec<&str> =
            stdout(&tar).lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(owners.len(), 2);
        assert!(owners.contains(&"44/45") && owners.contains(&"0/0"), "running: {running}: {owners:?}");
        if running {
            world.says(&["kill", "one"]);
            world.says(&["wait", "one"]);
        }
    }
}

/// Whether ids can be given to an ordinary user.
fn has_subordinate_ids() -> bool {
    let has = |path: &str| Path::new(path).exists();
    let found = has("/usr/bin/newuidmap") && has("/etc/subuid") && has("/etc/subgid");
    if !found {
        println!("skipped: no newuidmap or /etc/subuid (apt-get install uidmap)");
    }
    found
}

#[test]
fn a_user_keeps_his_id() {
    let Some(world) = World::new("ids-keep") else { return };
    if !has_subordinate_ids() {
        return;
    }
    let told = "id -u; id -g; stat -c %u:%g /etc/passwd /here /here/mine";
    let line = format!(
        "$R import ../root.tar box > /dev/null; mkdir here; touch here/mine
        $R run --rm $N --userns keep-id -v $PWD/here:/here box sh -c '{told}; touch /here/of-it'
        stat -c %u:%g here/of-it
        $R run --rm $N --userns keep-id:uid=7,gid=8 box sh -c 'id -u; id -g; cat /proc/self/uid_map | wc -l'
        $R run --rm $N --userns keep-id --user 0 box sh -c 'id -u; touch /new; chown 33:33 /new; stat -c %u:%g /new'
        $R run --name one $N --userns keep-id --user 0 box sh -c 'touch /new; chown 44:45 /new; touch /tmp/own'
        $R diff one; $R export one | tar -tvn | grep -E ' (new|tmp/own)' | cut -d' ' -f2
        $R cp here/mine one:/tmp/in; $R commit one got > /dev/null
        $R run --rm $N got stat -c '%u:%g' /new /tmp/own /tmp/in
        $R run -d --name two $N --userns keep-id --user 0 box sh -c 'touch /y; chown 5:6 /y; while :; do sleep 0.1; done' > /dev/null
        while ! $R export two | tar -tvn | grep -q '5/6.* y'; do sleep 0.1; done
        $R exec two stat -c %u:%g /y; $R rm -f one two > /dev/null; ls store/containers | wc -l"
    );
    let output = as_user(&world, &line);
    let expected = format!(
        "{USER}\n{USER}\n0:0\n{USER}:{USER}\n{USER}:{USER}\n{USER}:{USER}\n7\n8\n3\n0\n33:33\n\
         A /new\nC /tmp\nA /tmp/own\n44/45\n0/0\n44:45\n0:0\n0:0\n5:6\n1\n"
    );
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    // With one id he is all there is.
    let line = format!(
        "$R run --rm $N --userns keep-id -v $PWD/here:/here box sh -c '{told}; touch /tmp/x && stat -c %u /tmp/x'
        $R run --rm $N --userns auto box true || echo none"
    );
    let output = as_user_with(&world, "", &line);
    let own = format!("{USER}:{USER}\n");
    let expected = format!("{USER}\n{USER}\n{own}{own}{own}{USER}\nnone\n");
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: as root: usermod --add-subuids"), "{}", stderr(&output));
}

/// Runs a shell line as root, these being in /etc/subuid and /etc/subgid.
fn as_root_with(world: &World, ids: &str, line: &str) -> Output {
    let script = format!(
        "set -e; printf '{ids}' > $TMPDIR/subids; for f in /etc/subuid /etc/subgid; do mount --bind $TMPDIR/subids $f; done
         exec sh -ec \"$1\""
    );
    let mut command = world.in_namespace("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh", line]);
    command.env("R", format!("{} --root {}", runion().display(), world.store().display()));
    command.env("N", "--network none").output().unwrap()
}

#[test]
fn each_has_a_range_of_its_own() {
    let Some(world) = World::new("ids-auto") else { return };
    if !Path::new("/etc/subuid").exists() || !Path::new("/etc/subgid").exists() {
        println!("skipped: no /etc/subuid (apt-get install uidmap)");
        return;
    }
    let wait = "sh -c 'while :; do sleep 0.1; done'";
    // Room for two, and some.
    let line = format!(
        "$R run -d --name one $N --userns auto box {wait} > /dev/null
        $R run -d --rm --name two $N --userns auto box {wait} > /dev/null
        $R exec one cat /proc/self/uid_map /proc/self/gid_map; $R exec two cat /proc/self/uid_map
        $R run --rm $N --userns auto box true || echo none
        $R exec two sh -c 'touch /x; chown 7:8 /x; stat -c %u:%g /x /etc/passwd'
        kill -9 $(grep -h '\"name\":\"two\"' {store}/containers/*/state.json | grep -o '\"monitor\":[0-9]*' | cut -d: -f2)
        $R run --rm $N --userns auto box cat /proc/self/uid_map
        $R run --rm $N --userns auto:size=500 box cat /proc/self/uid_map
        $R inspect -f '{{{{.HostConfig.UsernsMode}}}}' one; $R rm -f one > /dev/null
        $R run --rm $N --userns auto:size=1500 box cat /proc/self/uid_map",
        store = world.store().display(),
    );
    let output = as_root_with(&world, "containers:300000:1100\\ncontainers:500000:1100\\n", &line);
    let told: Vec<Vec<&str>> =
        stdout(&output).lines().map(|line| line.split_whitespace().collect()).collect();
    let expected: [&[&str]; 9] = [
        &["0", "300000", "1024"],
        &["0", "300000", "1024"],
        &["0", "500000", "1024"],
        &["none"],
        &["7:8"],
        &["0:0"],
        &["0", "500000", "1024"],
        &["0", "500000", "500"],
        &["auto"],
    ];
    assert_eq!(told, expected, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("there are no 1024 ids") && said.contains("there are no 1500 ids"), "{said}");
    assert!(said.contains("for the user containers into /etc/subuid and /etc/subgid"), "{said}");
}

#[test]
fn a_user_s_containers_have_ranges_too() {
    let Some(world) = World::new("ids-auto-user") else { return };
    if !has_subordinate_ids() {
        return;
    }
    let line = "$R import ../root.tar box > /dev/null
        for name in one two; do
            $R run -d --name $name $N --userns auto:size=2000 box sh -c 'while :; do sleep 0.1; done' > /dev/null
            $R exec $name cat /proc/self/uid_map
        done
        $R exec two sh -c 'id -u; stat -c %u:%g /etc/passwd; touch /x; chown 7:8 /x; stat -c %u:%g /x'
        for pid in $($R inspect -f '{{.State.Pid}}' one two); do stat -c %u /proc/$pid; done
        $R commit two got > /dev/null; $R run --rm $N got stat -c %u:%g /x; $R rm -f one two > /dev/null";
    let output = as_user(&world, line);
    let told: Vec<String> =
        stdout(&output).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = ["0 1 2000", "0 2001 2000", "0", "0:0", "7:8", "600001", "602001", "7:8"];
    assert_eq!(told, expected, "{}", stderr(&output));
}

#[test]
fn copies_of_a_user_s() {
    let Some(world) = World::new("ids-dir") else { return };
    if !has_subordinate_ids() {
        return;
    }
    // No server: neither FUSE nor the program that mounts.
    let line = "$R import ../root.tar box > /dev/null; N=\"$N --storage-driver dir\"
        $R run --name one $N box sh -c 'stat -c %u:%g:%a /data/sub /data/file; echo x > /new; chown 44:45 /new; rm /data/link'
        $R diff one; $R commit one got > /dev/null; $R run --rm $N got stat -c %u:%g /new
        $R cp one:/new got; cat got; $R export one | tar -tvn | grep ' new' | cut -d' ' -f2
        $R run --name two $N --userns keep-id --user 0 got sh -c 'stat -c %u:%g /new; touch /mine'; $R diff two
        $R rm one two > /dev/null; ls store/containers | wc -l";
    as_user(&world, "true");
    fs::remove_file(world.scratch.join("bin/mount-runionfs")).unwrap();
    let output = as_user(&world, line);
    let data = "7:8:755\n7:8:4751\n";
    let expected = format!("{data}D /data/link\nA /new\n44:45\nx\n44/45\n44:45\nA /mine\n1\n");
    assert_eq!(stdout(&output), expected.replace("D /data", "C /data\nD /data"), "{}", stderr(&output));
    // One id: everything is the user's.
    let line = "$R run --name one --storage-driver dir $N box sh -c 'stat -c %u:%g:%a /data/sub /data/file; echo x > /new'
        $R diff one; $R rm one > /dev/null
        $R run --rm $N box true || echo failed";
    let output = as_user_with(&world, "", line);
    let expected = "0:0:755\n0:0:4751\nA /new\nfailed\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
}

#[test]
fn devices_of_the_host_s() {
    let Some(world) = World::new("ids-devices") else { return };
    let line = "$R import ../root.tar box > /dev/null; D=$PWD/../node
        $R run --rm $N --device ../node/open:/dev/mine:r --device $D/more:/dev/all box sh -c \
            'head -c 3 /dev/mine | wc -c; echo x > /dev/all/full || echo full; stat -c %t:%T /dev/mine; ls /dev/all'
        $R run --rm $N --device $D/open box true || echo $?
        $R run --rm $N --device $D/closed box true || echo $?
        $R run --name one $N --device $D/open:/dev/mine:r box true; $R diff one; $R cp one:/etc/group - > /dev/null; $R diff one";
    let output = as_user(&world, line);
    assert_eq!(stdout(&output), "3\nfull\n1:5\nfull\n125\n125\n", "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("open: you may not use it yourself: Permission denied"), "{said}");
    assert!(said.contains("closed: you may not use it yourself: Permission denied"), "{said}");
    assert!(said.contains("hint: ask for less"), "{said}");
    let told = world.sh(
        &["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536", "--device", "/dev/zero:/dev/mine"],
        "head -c 3 /dev/mine | wc -c",
    );
    assert_eq!(told, "3\n");
}
