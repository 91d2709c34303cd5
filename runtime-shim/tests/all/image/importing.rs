//! `import` and `export`.

use super::store::{Store, has, sh, tool};
use crate::setup::{snapshot, stderr, stdout};

#[test]
fn a_tree_goes_in_and_comes_out_the_same() {
    let store = Store::new("import");
    let tree = store.tree("root", &[("etc/hostname", "host\n"), ("usr/bin/tool", &"x".repeat(100_000))]);
    std::os::unix::fs::symlink("usr/bin", tree.join("bin")).unwrap();
    std::fs::hard_link(tree.join("usr/bin/tool"), tree.join("usr/bin/alias")).unwrap();
    std::fs::create_dir(tree.join("empty")).unwrap();
    let out = store.scratch.join("out");
    std::fs::create_dir(&out).unwrap();
    let written = store.scratch.join("written");
    assert!(sh(&store, "tar -C \"$1\" --format=posix -cf \"$2\" .", &[&tree, &written]).status.success());
    for (compress, file) in [("cat", "plain"), ("gzip", "gzip"), ("zstd", "zstd")] {
        if !has(compress) {
            continue;
        }
        let archive = store.scratch.join(file);
        let line = format!("{compress} < \"$1\" > \"$2\"");
        assert!(sh(&store, &line, &[&written, &archive]).status.success());
        let imported =
            sh(&store, "\"$RUNION\" import - name:$2 < \"$1\"", &[&archive, std::path::Path::new(file)]);
        assert!(stdout(&imported).starts_with("sha256:"), "{}", stderr(&imported));
        let into = out.join(file);
        std::fs::create_dir(&into).unwrap();
        let line = "\"$RUNION\" export name:$1 | tar -x -C \"$2\"";
        let exported = sh(&store, line, &[std::path::Path::new(file), &into]);
        assert!(exported.status.success(), "{}", stderr(&exported));
        assert_eq!(snapshot(&into), snapshot(&tree), "{compress}");
    }
    let diff_ids = store.ok(&["inspect", "-f", "{{.RootFS.Layers}}", "name:plain", "name:gzip"]);
    let lines: Vec<&str> = diff_ids.lines().collect();
    assert_eq!(lines[0], lines[1], "the layer is what was compressed");
    let file = store.scratch.join("exported.tar");
    store.ok(&["export", "name:plain", "-o", file.to_str().unwrap()]);
    assert!(tool("tar", &["-tf", file.to_str().unwrap()]).contains("usr/bin/alias"));
}

#[test]
fn changes_are_applied() {
    let store = Store::new("changes");
    let id = store.import(
        "app:1",
        &[("a", "b")],
        &[
            "-c",
            "CMD [\"/bin/app\", \"-x\"]",
            "--change",
            "ENV A=1 B=\"2 3\"",
            "-c",
            "EXPOSE 80 53/udp",
            "-c",
            "WORKDIR /srv",
            "-c",
            "LABEL a.b=c",
            "-c",
            "USER app",
            "-m",
            "made by hand",
            "--platform",
            "linux/arm/v7",
        ],
    );
    let shown = |format: &str| store.ok(&["inspect", "-f", format, &id]).trim().to_owned();
    assert_eq!(
        shown("{{json .Config.Cmd}} {{.Config.WorkingDir}} {{.Config.User}}"),
        "[\"/bin/app\",\"-x\"] /srv app"
    );
    assert_eq!(shown("{{range .Config.Env}}<{{.}}>{{end}}"), "<A=1><B=2 3>");
    assert_eq!(shown("{{json .Config.ExposedPorts}}"), "{\"53/udp\":{},\"80/tcp\":{}}");
    assert_eq!(
        shown("{{index .Config.Labels \"a.b\"}} {{.Os}}/{{.Architecture}}/{{.Variant}}"),
        "c linux/arm/v7"
    );
    assert!(store.ok(&["history", "app:1"]).contains("made by hand"));
    assert_eq!(store.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), "app:1\n");
}

#[test]
fn what_cannot_be_imported_is_refused() {
    let store = Store::new("refused");
    let archive = store.tar("a", &[("x", "y")]);
    let archive = archive.to_str().unwrap();
    let no_archive = store.scratch.join("text");
    std::fs::write(&no_archive, "this is no archive").unwrap();
    let empty = store.scratch.join("nothing");
    std::fs::write(&empty, "").unwrap();
    for (arguments, why) in [
        (&["import", "/does/not/exist"][..], "open /does/not/exist: No such file"),
        (&["import", "https://example.com/x.tar"], "hint: nothing is fetched here"),
        (&["import", no_archive.to_str().unwrap()], "tar entry at byte 0"),
        (&["import", empty.to_str().unwrap()], "there is nothing in the archive"),
        (&["import", "-"], "there is nothing in the archive"),
        (&["import", "/tmp"], "/tmp is a directory and no archive\nhint: tar -C /tmp -c . | runion import -"),
        (&["import", archive, "Upper:1"], "repository names are lower case"),
        (&["import", archive, "a:b:c"], "cannot stand in"),
        (&["import", "-c", "RUN true", archive], "RUN is no instruction for it"),
        (&["import", "--platform", "a/b/c/d", archive], "is no platform"),
        (&["export", "nothing"], "Error: No such container: nothing"),
        (&["export", "hello", "-o", "/does/not/exist"], "write /does/not/exist"),
        (&["export", "hello", "-o", "/tmp"], "/tmp is a directory"),
    ] {
        let complaint = store.fails(1, arguments);
        assert!(complaint.contains(why), "{arguments:?}: {complaint}");
    }
    assert_eq!(store.ok(&["images", "--format", "{{.Repository}}"]), "hello\n");
    assert!(store.ok(&["prune", "-f"]).contains("Total reclaimed space: "));
    assert_eq!(store.ok(&["fsck"]), "clean\n");
}
