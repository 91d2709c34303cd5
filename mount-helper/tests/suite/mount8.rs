//! Called by mount(8), with and without mount.fuse3 between.

use crate::scene::Scene;

/// Puts the program where mount(8) looks, in this namespace only: over a copy
/// of the directory's names made by kernel overlayfs.
const INSTALL: &str = r#"
    D=$PWD; O=lowerdir=$D/l1:$D/l2,upperdir=$D/u,workdir=$D/w
    # mount(8) notes user mounts there, for every namespace.
    if [ -d /run/mount ]; then mount -t tmpfs none /run/mount; fi
    mkdir sbin; mount -t tmpfs none sbin; mkdir sbin/u sbin/w
    install() { cp -L bin/runionfs "sbin/u/$1"; mount -t overlay none -o "lowerdir=/usr/sbin,upperdir=$D/sbin/u,workdir=$D/sbin/w" /usr/sbin; }
"#;

fn run(script: &str) {
    let Some(scene) = Scene::new() else { return };
    if std::fs::canonicalize("/sbin").ok() != Some("/usr/sbin".into()) {
        println!("skipped: /sbin is not /usr/sbin");
        return;
    }
    scene.run(&format!("{INSTALL}{script}"));
}

#[test]
fn by_type() {
    run(r#"
        install mount.runionfs
        said=$(mount -t runionfs -o "$O" name m 2>&1); same "$said" ""
        same "$(cat m/top m/below)" 12
        same "$(shown m | cut -d' ' -f1,3,4)" "name fuse.runionfs rw,relatime,user_id=0,group_id=0,default_permissions,allow_other"
        umount m; await_no_daemon
        mount -t runionfs -n -v -r -o "$O" name m >/dev/null; fails 1 "Read-only" touch m/x
        umount m; await_no_daemon
        mount -t runionfs -f -o "$O" name m; same "$(shown m)" ""
        mount -t runionfs -s -o "$O,what,is=this" name m; umount m; await_no_daemon
        fails 1 "unknown option what" mount -t runionfs -o "$O,what" name m
        fails 32 "does not exist" mount -t runionfs -o "lowerdir=$D/none" name m
    "#);
}

#[test]
fn by_subtype() {
    run(r#"
        install runionfs
        mount -t fuse.runionfs -o "$O,nodev" name m; same "$(cat m/top m/below)" 12
        same "$(shown m | cut -d' ' -f1,3,4 | cut -d, -f1-3)" "name fuse.runionfs rw,nodev,relatime"
        umount m; await_no_daemon
        fails 1 "unknown option what" mount -t fuse.runionfs -o "$O,what" name m
    "#);
    run(r#"
        install mount.fuse.runionfs
        mount -t fuse.runionfs -o "$O" name m; same "$(cat m/top m/below)" 12; umount m; await_no_daemon
        mount -t fuse.runionfs -f -o "$O" name m; same "$(shown m)" ""
    "#);
}

#[test]
fn from_fstab() {
    run(r#"
        install mount.runionfs
        echo "union $D/m runionfs $O,nofail,_netdev,x-systemd.requires=/x,comment=why,noatime 0 0" >fstab
        mount -T fstab -a; same "$(cat m/top m/below)" 12
        case $(shown m) in "union "*" rw,noatime,"*) ;; *) shown m; exit 1;; esac
        umount m; await_no_daemon
        echo "union $D/m runionfs lowerdir=$D/l1:$D/l2,user,noauto 0 0" >fstab
        mount -T fstab union
        case $(shown m) in *" ro,nosuid,nodev,noexec,"*) ;; *) shown m; exit 1;; esac
    "#);
}

#[test]
fn by_an_ordinary_user() {
    run(r#"
        install mount.runionfs; chown -R 1000:1000 l1 l2 u w m
        mkdir node; mount -t tmpfs none node; mknod -m 666 node/fuse c 10 229; mount --bind node/fuse /dev/fuse
        as_user() { setpriv --reuid=1000 --regid=1000 --clear-groups "$@"; }
        for program in "$(command -v mount)" "$(command -v umount)" "$(command -v fusermount3)"; do
            [ -u "$program" ] || { echo "skipped: $program is not set-user-id"; exit 0; }
        done
        echo "union $D/m runionfs $O,user,noauto 0 0" >fstab; mount --bind fstab /etc/fstab
        as_user mount "$D/m"; same "$(as_user cat m/top m/below)" 12; as_user touch m/new
        case $(shown m) in "union "*" rw,nosuid,nodev,noexec,"*,user_id=1000,*) ;; *) shown m; exit 1;; esac
        as_user umount "$D/m"; await_no_daemon; same "$(stat -c %u u/new)" 1000
    "#);
}

#[test]
fn remount() {
    run(r#"
        install mount.runionfs; cp -L bin/runionfs sbin/u/runionfs
        mount -t runionfs -o "$O,nosuid" name m; echo a >m/file
        mount -o remount,ro m; fails 1 "Read-only file system" touch m/file
        case $(shown m) in *" ro,nosuid,relatime,"*) ;; *) shown m; exit 1;; esac
        mount -o remount,rw,noatime m; echo b >m/file
        case $(shown m) in *" rw,nosuid,noatime,"*) ;; *) shown m; exit 1;; esac
        mount -t runionfs -o "remount,ro,$O" name m; fails 1 "Read-only file system" touch m/file
        bin/mount.runionfs name m -o remount,rw,exec; echo c >m/file
        fails 32 "nothing of ours is mounted" bin/mount.runionfs name l1 -o remount,ro
    "#);
}

#[test]
fn into_another_namespace() {
    run(r#"
        unshare -m --propagation private sleep 60 & other=$!
        apart() { [ "$(readlink /proc/$other/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ]; }; await apart
        bin/mount.runionfs name "$D/m" -N /proc/$other/ns/mnt -o "$O"
        same "$(shown m)" ""; same "$(nsenter -m -t $other cat "$D/m/below")" 2
        kill $other; wait $other || true; await_no_daemon
    "#);
}
