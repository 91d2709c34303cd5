//! The argument lists of podman and buildah, literally, from where they call.

use crate::scene::Scene;

#[test]
fn podmans_argument_lists() {
    let Some(scene) = Scene::new() else { return };
    for options in [
        "lowerdir=l/A:l/B,upperdir=c/diff,workdir=c/work,,volatile",
        "lowerdir=l/A:l/B,upperdir=c/diff,workdir=c/work,",
        "lowerdir=l/A:c/empty",
        "lowerdir=l/A:l/B,upperdir=c/diff,workdir=c/work,,volatile,uidmapping=:0:1:1000,gidmapping=:0:1:1000",
        "lowerdir=l/A:l/B,upperdir=c/diff,workdir=c/work,,uidmapping=:0:1:1002:1002:0:1:1003:1003:64534,gidmapping=:0:1:1002:1002:0:1:1003:1003:64534",
        "lowerdir=l/A:l/B,upperdir=c/diff,workdir=c/work,,xattr_permissions=2",
        "lowerdir=l/A,upperdir=c/diff,workdir=c/work,private",
        "lowerdir=l/A:c/empty,private",
        "lowerdir=l/A:l/B,upperdir=c/diff,workdir=c/work,lazytime,metacopy=on",
    ] {
        scene.run(&format!(
            r#"
            rm -rf overlay; mkdir -p overlay/l overlay/c/diff overlay/c/work overlay/c/empty overlay/c/merged; cd overlay
            ln -s ../../l1 l/A; ln -s ../../l2 l/B
            # Root as the container sees it: what it makes is root's on disk.
            case "{options}" in *uidmapping*) root=1;; *) root=0;; esac
            said=$(runionfs -o "{options}" "$PWD/c/merged" </dev/null 2>&1); same "$said" ""
            same "$(cat c/merged/top)" 1
            case "{options}" in *upperdir*)
                setpriv --reuid=$root --regid=$root --clear-groups sh -c 'echo new >c/merged/new'
                same "$(cat c/diff/new)" new; same "$(stat -c %u:%g c/diff/new c/merged/new | paste -sd,)" "0:0,$root:$root";; esac
            d=$(daemons); [ -n "$d" ]; fusermount3 -u "$PWD/c/merged"; await_end "$d"
            "#
        ));
    }
}

#[test]
fn a_fuse_mount_as_a_lower() {
    let Some(scene) = Scene::new() else { return };
    let dir = scene.path();
    scene.run(&format!(
        r#"
        mkdir empty n; runionfs -o "lowerdir=$PWD/l1:$PWD/l2" m
        runionfs -o "lowerdir=$PWD/m:$PWD/empty,private" n
        same "$(cat n/top n/below n/d/one n/d/two)" 1212; same "$PWD" "{}"
        "#,
        dir.display()
    ));
}

/// podman, as the host's root, puts files into a root of container ids, and
/// then gives them away.
#[test]
fn hosts_root_in_a_containers_ids() {
    let Some(scene) = Scene::new() else { return };
    scene.run(
        r#"
        O=lowerdir=$PWD/l1:$PWD/l2,upperdir=$PWD/u,workdir=$PWD/w
        runionfs -o "$O,uidmapping=:0:1:1000,gidmapping=:0:1:1000" m
        ln -s /proc/mounts m/mtab; mkdir m/made
        same "$(stat -c %u:%g m/mtab m/made | paste -sd,)" 65534:65534,65534:65534
        chown -h 1:1 m/mtab; same "$(stat -c %u:%g u/mtab)" 0:0
        "#,
    );
}
