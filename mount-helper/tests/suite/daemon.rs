//! The daemon's life: what it keeps, what it lets go, when it ends.

use crate::scene::Scene;

const LAYERS: &str = "D=$PWD; O=lowerdir=$D/l1:$D/l2,upperdir=$D/u,workdir=$D/w\n";

fn run(script: &str) {
    if let Some(scene) = Scene::new() {
        scene.run(&format!("{LAYERS}{script}"));
    }
}

#[test]
fn it_ends_when_unmounted_in_each_way() {
    run(r#"
        for unmount in "umount" "umount -l" "fusermount3 -u"; do
            runionfs -o "$O" m; d=$(daemons); [ -n "$d" ]
            $unmount m; await_end "$d"
        done
    "#);
}

#[test]
fn signals_unmount() {
    run(r#"
        for signal in TERM INT HUP; do
            runionfs -o "$O" m; d=$(daemons); [ -n "$d" ]
            kill -$signal "$d"; await_end "$d"; same "$(shown m)" ""; ls m >/dev/null
        done
        runionfs -f -o "$O" m & d=$!
        await mounted m
        same "$(cat m/below)" 2; kill -TERM $d; wait $d; same "$(shown m)" ""
    "#);
}

#[test]
fn a_signal_leaves_open_files_served() {
    run(r#"
        runionfs -o "$O" m; d=$(daemons); exec 7<m/below
        kill -TERM "$d"; await unmounted m
        same "$(cat <&7)" 2; exec 7<&-; await_end "$d"
    "#);
}

#[test]
fn bind_mounts_of_it_go_as_well() {
    run(r#"
        mkdir b; runionfs -o "$O" m; mount --bind m/d b; d=$(daemons)
        kill -TERM "$d"; await_end "$d"; same "$(shown m)$(shown b)" ""
    "#);
}

#[test]
fn nothing_is_inherited() {
    run(r#"
        out=$(runionfs -o "$O" m); same "$out" ""
        d=$(daemons); same "$(ls -l /proc/$d/fd | grep -c /dev/null)" 3; umount m; await_end "$d"
        touch lock; flock lock bash -c 'exec 250>lock.too; runionfs -o "$1" m' - "$O"
        flock -n lock true
        d=$(daemons); same "$(ls -l /proc/$d/fd | grep -c lock || true)" 0
        same "$(readlink /proc/$d/cwd)" /
        same "$(ps -o sid= -p $d | tr -d ' ')" "$d"
        same "$(awk '/^Max open files/ { print $4 == $5 }' /proc/$d/limits)" 1
    "#);
}

#[test]
fn layers_may_be_named_through_inherited_descriptors() {
    run(r#"
        exec 8<l2; mv l2 elsewhere
        runionfs -o lowerdir=$D/l1:/proc/self/fd/8,upperdir=$D/u,workdir=$D/w m; same "$(cat m/below)" 2
        d=$(daemons); same "$(ls -l /proc/$d/fd | grep -c '/8 ' || true)" 0
    "#);
}

#[test]
fn the_callers_umask_holds_not_the_daemons() {
    run(r#"
        umask 077; runionfs -o "$O" m; umask 022; touch m/file; mkdir m/dir
        same "$(stat -c %a m/file m/dir | paste -sd,)" 644,755
    "#);
}

#[test]
fn a_failure_leaves_nothing() {
    run(r#"
        before=$(cat /proc/self/mounts)
        fails 32 "does not exist" runionfs -o "lowerdir=$D/none" m
        fails 32 "different file systems" runionfs -o "lowerdir=$D/l1,upperdir=$D/u,workdir=/dev/shm" m
        fails 1 "unknown option" runionfs -o "$O,quux" m
        same "$(cat /proc/self/mounts)" "$before"; same "$(daemons)" ""
    "#);
}

#[test]
fn a_caller_that_was_killed_wants_no_mount() {
    run(r#"
        # The layers sit behind a FUSE mount whose server is stopped.
        mkdir slow; runionfs -o "lowerdir=$D/l1,timeout=0" slow; s=$(daemons); kill -STOP $s
        stopped() { case $(ps -o stat= -p $s) in T*) ;; *) false;; esac; }; await stopped
        runionfs -o "lowerdir=$D/slow/d:$D/l2" m & caller=$!
        waiting() { [ "$(daemons | wc -l)" -ge 3 ]; }; await waiting
        kill -KILL $caller; wait $caller || true; kill -CONT $s
        umount slow || umount -l slow; await_no_daemon; same "$(shown m)" ""
    "#);
}
