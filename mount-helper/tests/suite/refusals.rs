//! What is refused, in one sentence that names both sides, with exit status 32.

use crate::scene::Scene;

const LAYERS: &str = "D=$PWD; O=lowerdir=$D/l1:$D/l2,upperdir=$D/u,workdir=$D/w\n";

fn run(script: &str) {
    if let Some(scene) = Scene::new() {
        scene.run(&format!("{LAYERS}{script}"));
    }
}

#[test]
fn overlaps() {
    run(r#"
        mkdir l1/u l1/w
        fails 32 "lies inside lowerdir $D/l1" runionfs -o lowerdir=l1,upperdir=l1/u,workdir=l1/w m
        fails 32 "lies inside lowerdir $D/l1" runionfs -o lowerdir=l1:l1/d m
        fails 32 "the same directory" runionfs -o lowerdir=l1:l2,upperdir=l1,workdir=w m
        fails 32 "mount point $D/l1 and lowerdir $D/l1 are the same directory" runionfs -o lowerdir=l1:l2 l1
        fails 32 "mount point $D/u/in lies inside upperdir $D/u" sh -c "mkdir u/in; runionfs -o $O u/in"
        fails 32 "upperdir $D/u and workdir $D/w are on different file systems" \
            sh -c "mount -t tmpfs none w; runionfs -o $O m"
    "#);
}

#[test]
fn an_upper_in_use() {
    run(r#"
        mkdir m2 w2
        runionfs -o "$O" m
        fails 32 "$D/u" runionfs -o "$O" m2
        fails 32 "$D/u" runionfs -o "lowerdir=$D/l1,upperdir=$D/u,workdir=$D/w2" m2
        same "$(shown m2)" ""; umount m; await_no_daemon; runionfs -o "$O" m2
    "#);
}

#[test]
fn a_missing_device() {
    run(r#"
        mkdir dev; mount --bind dev /dev
        fails 32 "there is no /dev/fuse" runionfs -o "$O" m
        touch /dev/fuse; fails 32 "cannot" runionfs -o "$O" m
        same "$(shown m)" ""
    "#);
}

#[test]
fn a_read_only_upper() {
    run(r#"
        mount --bind . m; mount -o remount,bind,ro m
        fails 32 "upperdir $D/m/u is on a read-only mount" runionfs -o "lowerdir=$D/l1,upperdir=$D/m/u,workdir=$D/m/w" l2/d
    "#);
}

#[test]
fn usage() {
    run(r#"
        fails 1 "no mount point" runionfs -o "$O"
        fails 1 "no lower layer" runionfs m
        fails 1 "did you mean lowerdir?" runionfs -o lowerdri=l1 m
        fails 1 "needs a workdir" runionfs -o lowerdir=l1,upperdir=u m
        fails 1 "metacopy=on conflicts" runionfs -o "$O,metacopy=on,redirect_dir=nofollow" m
        fails 1 "transport=fuser serves" runionfs -o "$O,transport=fuser,data=unopened" m
        fails 1 "plugins is not supported" runionfs -o "$O,plugins=x" m
    "#);
}

#[test]
fn files_passed_through_for_a_user() {
    run(r#"
        own() { unshare --user --mount --map-root-user sh -c 'runionfs -o "$1" m && cat m/below' - "$@"; }
        fails 32 "the system's own root" own "$O,data=upper"
        same "$(own "$O")" 2
    "#);
}

#[test]
fn a_dead_mount_point() {
    run(r#"
        runionfs -o "$O" m; d=$(daemons); kill -KILL "$d"; await_end "$d"
        fails 32 "server is gone" runionfs -o "$O" m
        umount -l m; runionfs -o "$O" m; same "$(cat m/below)" 2
    "#);
}

#[test]
fn more_layers_than_open_files() {
    run(r#"
        for n in $(seq 60); do mkdir -p many/$n; echo "$D/many/$n"; done >list
        fails 32 "hint: each layer takes up to two open files" \
            bash -c 'ulimit -n 50; exec runionfs -o "lowersfile=$1" m' - "$D/list"
        same "$(shown m)" ""
    "#);
}
