//! A store on a file system that is read only, such as a snapshot: what is there
//! can be looked at and taken out, and what would change it is refused in words.

use std::path::Path;
use std::process::Command;

use layerstore::archive::{Format, save};
use layerstore::reference::Reference;
use layerstore::store::{Repair, Store};

use crate::made::{docker, image, pack};
use crate::state::{Scratch, assert_clean, load, state};

const INSIDE: &str = "LAYERSTORE_TESTS_READONLY";

#[test]
fn what_is_there_can_be_taken_out() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let scratch = Scratch::new();
    drop(load(&scratch.store(), &pack(&docker(&[(&image(), &["name:1"])]))).unwrap());
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    unshare.args(["readonly::inside", "--exact", "--ignored", "--nocapture"]);
    let output = unshare.env(INSIDE, scratch.join("store")).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "the body of what_is_there_can_be_taken_out, in a mount namespace of its own"]
fn inside() {
    let Some(at) = std::env::var_os(INSIDE) else { return };
    for options in ["bind", "remount,bind,ro"] {
        let mounted = Command::new("mount").args(["-o", options]).args([&at, &at]).status();
        assert!(mounted.unwrap().success());
    }
    let store = Store::open(Path::new(&at)).unwrap();
    let before = state(&store);
    let found = store.find("name:1").unwrap();
    // Its lock was never made: nobody had it in use.
    let held = store.hold(found.id()).unwrap();
    let mut archive = Vec::new();
    let names = found.names.clone();
    save(&store, &[(found.record.clone(), names)], Format::Docker, &mut archive).unwrap();
    drop(held);
    let copy = Scratch::new();
    let copy = copy.store();
    load(&copy, &archive).unwrap();
    assert_eq!(state(&copy), before);
    assert_clean(&store);
    store.usage().unwrap();
    let name = Reference::parse("other:1").unwrap();
    let refusals = [
        store.tag(found.id(), &name).err(),
        store.remove_image(found.id()).err(),
        load(&store, &pack(&docker(&[(&crate::made::other(), &["other:1"])]))).err(),
    ];
    for refusal in refusals {
        let refusal = refusal.unwrap();
        assert!(refusal.message().ends_with("Read-only file system"), "{refusal}");
    }
    assert_eq!(state(&store), before);
    assert_eq!(store.fsck(Repair::No).unwrap(), []);
}
