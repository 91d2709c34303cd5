//! Each option of the union's own has its effect, seen from outside.

use crate::scene::Scene;

const LAYERS: &str = r#"
    D=$PWD; R=lowerdir=$D/l1:$D/l2; O=$R,upperdir=$D/u,workdir=$D/w
    # Mounts with options, after undoing what was there.
    with() { if mounted m; then umount m; await_no_daemon; fi; rm -rf u w; mkdir u w; runionfs -o "$O,$1" m; }
"#;

fn run(script: &str) {
    if let Some(scene) = Scene::new() {
        scene.run(&format!("{LAYERS}{script}"));
    }
}

#[test]
fn redirect_dir() {
    run(r#"
        with redirect_dir=on; mv m/d m/e; same "$(cat m/e/one m/e/two)" 12
        same "$(getfattr --only-values -n trusted.overlay.redirect u/e)" d
        rename() { python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$@"; }
        for off in redirect_dir=off redirect_dir=follow redirect_dir=nofollow; do
            with $off; fails 1 "Invalid cross-device link" rename m/d m/e
            mv m/d m/e; same "$(cat m/e/one m/e/two)" 12
        done
    "#);
}

#[test]
fn metacopy() {
    run(r#"
        head -c 100000 /dev/urandom >l2/below; sum=$(md5sum <l2/below)
        with metacopy=on; chmod 600 m/below; same "$(stat -c %s u/below)" 100000
        [ "$(stat -c %b u/below)" -lt 100 ]; same "$(md5sum <m/below)" "$sum"; getfattr -n trusted.overlay.metacopy u/below >/dev/null
        with metacopy=off; chmod 600 m/below; same "$(md5sum <u/below)" "$sum"
        fails 1 "No such attribute" getfattr -n trusted.overlay.metacopy u/below
    "#);
}

#[test]
fn index() {
    run(r#"
        ln l2/below l2/other
        with index=on; echo x >m/below; same "$(cat m/other)" x; same "$(stat -c %h m/other)" 2
        with index=off; echo x >m/below; same "$(cat m/other)" 2
    "#);
}

#[test]
fn userxattr() {
    run(r#"
        with userxattr; rm -r m/d; mkdir m/d; same "$(ls m/d)" ""
        same "$(getfattr --only-values -n user.overlay.opaque u/d)" y
        with ro; umount m; await_no_daemon; with rw; rm -r m/d; mkdir m/d
        same "$(getfattr --only-values -n trusted.overlay.opaque u/d)" y
    "#);
}

#[test]
fn xino() {
    run(r#"
        mount -t tmpfs none l1; echo 1 >l1/top
        with xino=on; [ "$(stat -c %i m/top)" != "$(stat -c %i l1/top)" ]
        before=$(stat -c %i m/below); echo x >>m/below; same "$(stat -c %i m/below)" "$before"
        same "$(ls -i m/below | cut -d' ' -f1)" "$before"
    "#);
}

#[test]
fn acl() {
    run(r#"
        with acl; setfacl -m u:1000:r m/top; getfacl -cn m/top | grep -q user:1000:r--
        with noacl; fails 1 "not supported" setfacl -m u:1000:r m/top
    "#);
}

#[test]
fn static_nlink() {
    run(r#"
        ln l2/below l2/other
        with rw; same "$(stat -c %h m/below)" 2
        with static_nlink; same "$(stat -c %h m/below)" 1
    "#);
}

#[test]
fn timeout() {
    run(r#"
        with timeout=0; same "$(stat -c %a m/below)" 644; chmod 600 l2/below; same "$(stat -c %a m/below)" 600
        with rw; same "$(stat -c %a m/below)" 600; chmod 640 l2/below; same "$(stat -c %a m/below)" 600
    "#);
}

#[test]
fn hide() {
    run(r#"
        mkdir -p l1/h/m; mv u w l1/h; echo x >l1/h/file
        runionfs -o "$R,upperdir=$D/l1/h/u,workdir=$D/l1/h/w,hide=$D/l1/h" l1/h/m
        same "$(ls l1/h/m | paste -sd' ')" "below d top"; fails 2 "No such file" ls l1/h/m/h
        same "$(cat l1/h/m/below)" 2
        fails 32 "hide=$D/none does not exist" runionfs -o "$R,hide=$D/none" m
    "#);
}

#[test]
fn submounts() {
    run(r#"
        mkdir l2/sub; echo under >l2/sub/file; mount -t tmpfs none l2/sub; echo over >l2/sub/file
        with submounts=hide; same "$(cat m/sub/file)" under
        with submounts=cross; same "$(cat m/sub/file)" over
    "#);
}

#[test]
fn threads() {
    run(r#"
        count() { ls "/proc/$(daemons)/task" | wc -l; }
        with transport=dev,threads=1; one=$(count); with transport=dev,threads=7; same "$(count)" $((one + 6))
    "#);
}

#[test]
fn data_and_transport() {
    run(r#"
        asked() { getfattr --only-values -n user.runionfs.stats m | grep -o "\"$1\":[0-9]*" | cut -d: -f2; }
        edit() { echo x >m/new; cat m/new >edited; }
        for transport in dev auto; do
            with transport=$transport,data=upper; edit; same "$(asked WRITE)$(asked READ)" ""
            with transport=$transport,data=cached; edit; same "$(asked WRITE) $(asked OPEN)" "1 1"
            with transport=$transport,data=unopened; edit; cat m/below m/below; same "$(asked WRITE) $(asked OPEN)" "1 1"
        done
        with transport=fuser; edit; same "$(asked WRITE)" 1
    "#);
}

#[test]
fn a_lower_nosuid_lends_no_privilege() {
    run(r#"
        mount -t tmpfs -o nosuid none l1; cp /usr/bin/id l1/id; chmod 6755 l1/id
        with suid; same "$(stat -c %a m/id)" 755
        echo x >>m/id; same "$(stat -c %a u/id)" 755
        with rw; same "$(stat -c %a m/id)" 6755
    "#);
}

#[test]
fn volatile() {
    run(r#"
        with volatile; echo x >>m/below; sync m/below; umount m; await_no_daemon
        # What kernel overlayfs leaves of such a mount until it is removed.
        mkdir -p w/work/incompat/volatile; fails 32 volatile runionfs -o "$O" m
        rm -r w/work/incompat; runionfs -o "$O" m; same "$(cat m/below | tr -d '\n')" 2x
    "#);
}
