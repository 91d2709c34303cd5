//! Called directly, in fuse-overlayfs's words.

use crate::scene::Scene;

/// Layers as absolute paths, so that a daemon's argument list names the scene.
const LAYERS: &str = "D=$PWD; O=lowerdir=$D/l1:$D/l2,upperdir=$D/u,workdir=$D/w; R=lowerdir=$D/l1:$D/l2\n";

fn run(script: &str) {
    if let Some(scene) = Scene::new() {
        scene.run(&format!("{LAYERS}{script}"));
    }
}

#[test]
fn a_union_is_usable_when_the_program_returns() {
    run(r#"
        said=$(runionfs -o "$O" m 2>&1); same "$said" ""
        same "$(cat m/top m/below m/d/one m/d/two)" 1212
        echo new >m/d/new; same "$(cat u/d/new)" new
        same "$(shown m | cut -d' ' -f1,3)" "runionfs fuse.runionfs"
        umount m; await_no_daemon
        runionfs -o "$O" m; same "$(cat m/d/new)" new
    "#);
}

#[test]
fn without_an_upper_it_is_read_only() {
    run(r#"
        runionfs -o "$R" m; same "$(cat m/below)" 2
        fails 1 "Read-only file system" touch m/x
        case $(shown m) in *" ro,"*) ;; *) shown m; exit 1;; esac
    "#);
}

#[test]
fn safe_flags_unless_root_asks() {
    run(r#"
        flags() { shown m | cut -d' ' -f4; }
        runionfs -o "$O" m; same "$(flags)" rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other
        umount m; await_no_daemon
        runionfs m -o "$O" -o suid,dev,noatime,noexec
        same "$(flags)" rw,noexec,noatime,user_id=0,group_id=0,default_permissions,allow_other
        umount m; await_no_daemon
        runionfs -o "$R,noallow_other,default_permissions,ro" m
        same "$(flags)" ro,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions
        umount m; await_no_daemon
        mkdir -p overlay/x/merged; chmod 700 overlay
        runionfs -o "$O" overlay/x/merged
        same "$(shown overlay/x/merged | cut -d' ' -f4 | cut -d, -f1-3)" rw,nodev,relatime
    "#);
}

#[test]
fn names_in_proc_mounts() {
    run(r#"
        runionfs -orw -o"$O" "a name" m; same "$(shown m | cut -d' ' -f1,3)" 'a\040name fuse.runionfs'; umount m
        await_no_daemon
        runionfs -o "fsname=given,subtype=other,$O" name m; same "$(shown m | cut -d' ' -f1,3)" "given fuse.other"
    "#);
}

#[test]
fn any_path_can_be_written() {
    run(r#"
        for name in 'a:b' 'c,d' 'e\f' 'g"h' 'i j' $'k\nl'; do mkdir "$name"; touch "$name/in $name"; done
        mkdir 'u,:\' 'w,:\'
        runionfs -o 'lowerdir=a\:b:c\,d:e\\f:g"h:i j:'$'k\nl' m
        same "$(ls -b m | wc -l)" 6
        umount m; await_no_daemon
        runionfs -o 'lowerdir+=a:b,lowerdir+=c\,d,lowerdir+=e\\f,upperdir=u\,\:\\,workdir=w\,\:\\' m
        same "$(ls -b m | wc -l)" 3; touch m/new; ls 'u,:\/new'
        umount m; await_no_daemon
        printf '%s\0' 'a:b' 'c,d' $'k\nl' >list
        runionfs -o lowersfile=list m; same "$(ls -b m | wc -l)" 3
    "#);
}

#[test]
fn more_lowers_than_an_option_string_of_the_kernels_holds() {
    run(r#"
        long=$(printf 'x%.0s' $(seq 200))
        for n in $(seq 500); do mkdir -p "$long/$n"; touch "$long/$n/$n"; echo "$D/$long/$n"; done >list
        runionfs -o "lowerdir=$(paste -sd: list),upperdir=$D/u,workdir=$D/w" m
        same "$(ls m | wc -l)" 500; umount m; await_no_daemon
        runionfs -o "$(sed 's/^/lowerdir+=/' list | paste -sd,)" m
        same "$(ls m | wc -l)" 500; umount m; await_no_daemon
        runionfs -o lowersfile=$D/list,upperdir=$D/u,workdir=$D/w m; same "$(ls m | wc -l)" 500
    "#);
}

#[test]
fn relative_and_symlinked_layers() {
    run(r#"
        mkdir l; ln -s ../l1 l/AAA; ln -s ../l2 l/BBB
        runionfs -o lowerdir=l/AAA:l/BBB,upperdir=u,workdir=w m; same "$(cat m/top m/below)" 12
    "#);
}

#[test]
fn ids_on_disk_first() {
    run(r#"
        chown 0:5 l2/below; chown 3:3 l1/top
        runionfs -o "$O,uidmapping=:0:1000:10,gidmapping=0:2000:10" m
        same "$(stat -c %u:%g m/below m/top | paste -sd' ')" "1000:2005 1003:2003"
    "#);
}

#[test]
fn version_and_help() {
    run(r#"
        case $(runionfs --version) in "runionfs: version "[0-9]*) ;; *) exit 1;; esac
        same "$(runionfs -V)" "$(runionfs --version)"
        runionfs --help | grep -q '^usage: runionfs'
    "#);
}
