//! Owners and modes that are not those of the inodes: squashed, or kept in an
//! attribute (`xattr_permissions`), as stores of podman's `force_mask` do.

use crate::scene::Scene;

const LAYERS: &str = r#"
    D=$PWD; O=lowerdir=$D/l1:$D/l2,upperdir=$D/u,workdir=$D/w
    owner() { stat -c %u:%g:%a "$@" | paste -sd' '; }
    kept() { getfattr -h --absolute-names --only-values -n "user.$1.override_stat" "$2"; }
    as() { setpriv --reuid=$1 --regid=$1 --clear-groups "${@:2}"; }
"#;

fn run(script: &str) {
    if let Some(scene) = Scene::new() {
        scene.run(&format!("{LAYERS}{script}"));
    }
}

#[test]
fn kept_in_an_attribute() {
    run(r#"
        chown 5:6 l1/top; chmod 640 l1/top; mkdir l1/open; chmod 1777 l1/open
        runionfs -o "$O,suid,xattr_permissions=2" m
        same "$(owner m/top)" 5:6:640
        (umask 027; echo new >m/new; mkdir m/made); same "$(owner m/new m/made)" "0:0:640 0:0:750"
        same "$(kept containers u/new) $(kept containers u/made)" "0:0:0640 0:0:0750"
        same "$(owner u/new u/made)" "0:0:640 0:0:750"
        chown 7:8 m/new; same "$(owner m/new u/new)" "7:8:640 0:0:640"
        chmod 4711 m/new; same "$(owner m/new u/new)" "7:8:4711 0:0:711"
        chown 9 m/new; same "$(owner m/new)" "9:8:711"
        chmod 600 m/top; same "$(owner m/top u/top) $(kept containers u/top)" "5:6:600 0:0:600 5:6:0600"
        fails 1 "ermission denied" as 1000 cat m/top; same "$(as 5 cat m/top)" 1
        as 1000 sh -c 'umask 022; echo x >m/open/his; mkdir m/open/dir'
        same "$(owner m/open/his m/open/dir u/open/his)" "1000:1000:644 1000:1000:755 0:0:644"
        same "$(owner m/open u/open)" "0:0:1777 0:0:755"
        mkdir m/shared; chown 0:44 m/shared; chmod 2775 m/shared; touch m/shared/in; mkdir m/shared/sub
        same "$(owner m/shared/in m/shared/sub)" "0:44:644 0:44:2755"
        rm m/below; echo over >m/below; same "$(owner m/below)" 0:0:644
        chmod 4755 m/shared/in; chown 1000 m/shared/in; chmod 6777 m/shared/in
        as 1001 sh -c 'echo y >>m/shared/in'; same "$(owner m/shared/in)" "1000:44:777"
        same "$(getfattr -d -m - m/new m/top)" ""
        fails 1 "not" setfattr -n user.containers.override_stat -v 0:0:04755 m/open/his
        umount m; await_no_daemon; runionfs -o "$O,suid,xattr_permissions=2" m
        same "$(owner m/new m/top m/open/his m/shared)" "9:8:711 5:6:600 1000:1000:644 0:44:2775"
    "#);
}

#[test]
fn stores_that_are_marked_are_read() {
    run(r#"
        mark() { setfattr -n "user.$1.override_stat" -v "$2" "$3"; }
        mark containers 0:0:0755 l2; mark containers 3:4:0640 l2/below; mark fuseoverlayfs 7:8:100755 l2/d/two
        runionfs -o "lowerdir=$D/l1:$D/l2" m; same "$(owner m/below m/d/two m/top)" "3:4:640 7:8:755 0:0:644"
        umount m; await_no_daemon
        # Unasked, not where set-user-id programs act for the whole machine.
        runionfs -o "suid,lowerdir=$D/l1:$D/l2" m; same "$(owner m/below)" 0:0:644; umount m; await_no_daemon
        runionfs -o "suid,lowerdir=$D/l1:$D/l2,xattr_permissions=1" m; same "$(owner m/below m/d/two)" "3:4:640 7:8:755"
        umount m; await_no_daemon
        # Copied up into an upper that is not marked, the owner becomes real.
        runionfs -o "$O" m; echo x >>m/below; same "$(owner m/below u/below)" "3:4:640 3:4:640"
        fails 1 "" kept containers u/below
    "#);
}

#[test]
fn squashed() {
    run(r#"
        chown 5:6 l1/top
        runionfs -o "$O,squash_to_root" m; same "$(owner m/top m/below)" "0:0:644 0:0:644"; umount m; await_no_daemon
        runionfs -o "$O,squash_to_uid=1000" m; same "$(owner m/top)" 1000:6:644; umount m; await_no_daemon
        runionfs -o "$O,squash_to_uid=1000,squash_to_gid=100" m
        same "$(owner m/top m/d)" "1000:100:644 1000:100:755"
        as 1000 touch m/mine; same "$(owner m/mine)" 1000:100:644
    "#);
}
