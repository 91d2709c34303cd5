//! Without privilege: in a user namespace, and through fusermount3.

use crate::scene::Scene;

/// An own node for /dev/fuse that everyone may open, layers of user 1000, and
/// a shell as that user.
const USER: &str = r#"
    D=$PWD; O=lowerdir=$D/l1:$D/l2,upperdir=$D/u,workdir=$D/w
    mkdir node; mount -t tmpfs none node; mknod -m 666 node/fuse c 10 229; mount --bind node/fuse /dev/fuse
    chown -R 1000:1000 l1 l2 u w m
    as_user() { setpriv --reuid=1000 --regid=1000 --clear-groups "$@"; }
"#;

fn run(script: &str) {
    if let Some(scene) = Scene::new() {
        scene.run(&format!("{USER}{script}"));
    }
}

#[test]
fn in_a_user_namespace() {
    run(r#"
        cat >inner <<'END'
set -eu
runionfs -o "$1" m
[ "$(cat m/top m/below)" = 12 ]
echo new >m/d/new; rm m/below; mv m/d m/e; chmod 600 m/top
[ "$(stat -c %u:%g m/d 2>/dev/null || stat -c %u:%g m/e)" = 0:0 ]
awk -v at="$PWD/m" '$2 == at { print $4 }' /proc/self/mounts
umount m
runionfs -o "$1" m
[ "$(cat m/e/new)" = new ] && [ ! -e m/below ] && [ "$(stat -c %a m/top)" = 600 ]
# A daemon keeps the namespace it lives in: it is for its maker to unmount.
umount m
END
        flags=$(as_user unshare -Urm bash inner "$O")
        case $flags in rw,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other) ;; *) echo "$flags"; exit 1;; esac
        await_no_daemon
    "#);
}

#[test]
fn by_fusermount() {
    run(r#"
        [ -u "$(command -v fusermount3)" ] || { echo "skipped: fusermount3 is not set-user-id"; exit 0; }
        as_user runionfs -o "$O" m
        same "$(as_user cat m/top m/below)" 12
        case $(shown m) in "runionfs "*" fuse.runionfs rw,nosuid,nodev,relatime,user_id=1000,group_id=1000,default_permissions 0 0") ;; *) shown m; exit 1;; esac
        fails 1 "ermission denied" cat m/top
        d=$(daemons); as_user fusermount3 -u m; await_end "$d"
        as_user runionfs -o "$O" "na,me" m; case $(shown m) in "na,me "*) ;; *) shown m; exit 1;; esac
        d=$(daemons); kill -TERM "$d"; await_end "$d"; same "$(shown m)" ""
        fails 32 "user_allow_other" as_user runionfs -o "$O,allow_other" m
        same "$(shown m)" ""
    "#);
}

/// A daemon without privilege meets its own read-only files and directories.
#[test]
fn odd_modes() {
    run(r#"
        [ -u "$(command -v fusermount3)" ] || { echo "skipped: fusermount3 is not set-user-id"; exit 0; }
        cd l2; echo r >ro; echo n >none; mkdir closed closed/sub; echo c >closed/file; echo s >closed/sub/file
        ln ro ro.link; chmod 444 ro; chmod 0 none; chmod 555 closed closed/sub; chown -R 1000:1000 .; cd ..
        as_user runionfs -o "$O" m
        as_user chmod 406 m/ro; same "$(stat -c %a u/ro)" 406; same "$(as_user cat m/ro)" r
        as_user chmod 200 m/none; same "$(stat -c %a u/none)" 200
        as_user chmod 600 m/closed/file; as_user sh -c 'echo more >>m/closed/file'
        same "$(cat u/closed/file | paste -sd,)" c,more; same "$(stat -c %a u/closed)" 555; same "$(as_user stat -c %a m/closed)" 555
        as_user chmod 644 m/closed/sub/file; same "$(stat -c %a u/closed/sub)" 555
        as_user rm -f m/ro.link; same "$(as_user cat m/ro)" r
        as_user chmod 755 m/closed; as_user mv m/closed/sub m/closed/moved; same "$(as_user cat m/closed/moved/file)" s
        d=$(daemons); as_user fusermount3 -u m; await_end "$d"
        as_user runionfs -o "$O" m; same "$(as_user cat m/closed/moved/file m/closed/file | paste -sd,)" s,c,more
    "#);
}

#[test]
fn without_any_helper() {
    run(r#"
        mkdir empty; mount --bind bin empty
        fails 32 "there is no fusermount3" as_user env PATH="$D/bin" "$D/bin/runionfs" -o "$O" m
    "#);
}
