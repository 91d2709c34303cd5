//! Several at once: threads and processes that load, collect, tag, hold and remove.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use layerstore::error::Kind;
use layerstore::reference::Reference;

use crate::actions::{Action, archive, archive_of_other};
use crate::made::{image, other};
use crate::state::{Scratch, assert_clean, assert_no_garbage, load, state};

/// How long a race goes on.
const RACE: Duration = Duration::from_millis(1500);

#[test]
fn loads_and_collections_in_threads() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.store(), scratch.store());
    for _ in 0..8 {
        scope(|scope| {
            for store in [&one, &two, &one] {
                scope.spawn(|| load(store, &archive()).unwrap());
            }
            scope.spawn(|| load(&two, &archive_of_other()).unwrap());
            scope.spawn(|| (0..3).for_each(|_| drop(two.collect().unwrap())));
            scope.spawn(|| (0..9).for_each(|_| drop(one.try_collect().unwrap())));
        });
        assert_eq!(state(&one), Action::LoadOther.after());
        assert_clean(&one);
        assert_no_garbage(&one);
        for id in [image().id(), other().id()] {
            one.remove_image(id).unwrap();
        }
        one.collect().unwrap();
    }
}

#[test]
fn loads_and_collections_in_processes() {
    let scratch = Scratch::new();
    let root = scratch.join("store");
    for _ in 0..4 {
        let store = Action::Load.prepare(&root);
        std::fs::write(root.with_extension("archive"), archive()).unwrap();
        let both = [Action::Load, Action::Collect, Action::Load, Action::LoadOther, Action::Collect];
        let start = |action: Action| {
            let mut command = action.command(&root);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let children: Vec<_> = both.into_iter().map(start).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        assert_eq!(state(&store), Action::Load.after());
        assert_clean(&store);
        assert_no_garbage(&store);
        store.remove_image(image().id()).unwrap();
    }
}

#[test]
fn many_open_a_new_store() {
    for _ in 0..10 {
        let scratch = Scratch::new();
        scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| scratch.store().collect().unwrap());
            }
        });
    }
}

/// What is held is there.
#[test]
fn holding_against_removing() {
    let scratch = Scratch::new();
    let (store, other_store) = (scratch.store(), scratch.store());
    load(&store, &archive()).unwrap();
    let id = image().id();
    let done = AtomicBool::new(false);
    let (held, removed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    scope(|scope| {
        for store in [&store, &other_store] {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let holding = match store.hold(id) {
                        Ok(holding) => holding,
                        Err(error) => {
                            assert_eq!(error.kind(), Kind::NotFound, "{error}");
                            continue;
                        }
                    };
                    let record = store.find(&id.to_string()).unwrap().record;
                    std::thread::sleep(Duration::from_micros(300));
                    store.config(&record).unwrap();
                    assert!(store.index_file(&record).exists());
                    store.layer(record.layers[0]).unwrap().unwrap().framing().unwrap();
                    held.fetch_add(1, Ordering::Relaxed);
                    drop(holding);
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
        }
        let begin = Instant::now();
        while begin.elapsed() < RACE {
            match other_store.remove_image(id) {
                Ok(()) => {
                    removed.fetch_add(1, Ordering::Relaxed);
                    other_store.try_collect().unwrap();
                    load(&other_store, &archive()).unwrap();
                }
                Err(error) => assert_eq!(error.kind(), Kind::InUse, "{error}"),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("held {held:?} times, removed {removed:?} times");
    assert!(held.into_inner() > 0 && removed.into_inner() > 0);
    assert_clean(&store);
    assert_no_garbage(&store);
}

/// A name that somebody gives is not lost with an image that somebody else removes
/// by its only other one.
#[test]
fn removing_against_tagging() {
    let scratch = Scratch::new();
    let (store, tagger) = (scratch.store(), scratch.store());
    let (id, name) = (image().id(), Reference::parse("given:1").unwrap());
    load(&store, &archive()).unwrap();
    let found = store.find("image:1").unwrap();
    tagger.tag(id, &name).unwrap();
    assert!(!store.remove_unchanged(&found, || false).unwrap());
    assert_eq!(store.find("given:1").unwrap().names.len(), 2, "nothing was done");
    tagger.note_digest(id, name.repository(), id).unwrap();
    tagger.untag(&name).unwrap();
    assert!(!store.remove_unchanged(&found, || false).unwrap(), "it has a digest");
    assert!(store.remove_unchanged(&store.find("image:1").unwrap(), || false).unwrap());

    let (mut kept, mut removed) = (0, 0);
    let begin = Instant::now();
    while begin.elapsed() < RACE {
        load(&store, &archive()).unwrap();
        let found = store.find("image:1").unwrap();
        scope(|scope| {
            let tagging = scope.spawn(|| tagger.tag(id, &name).is_ok());
            let is_gone = store.remove_unchanged(&found, || false).unwrap();
            let is_tagged = tagging.join().unwrap();
            assert!(is_gone != is_tagged, "gone: {is_gone}, tagged: {is_tagged}");
            (kept, removed) = (kept + u32::from(is_tagged), removed + u32::from(is_gone));
        });
        if store.name_leads_to(&name).unwrap().is_some() {
            store.remove_image(id).unwrap();
        }
    }
    println!("kept {kept} times, removed {removed} times");
    assert_clean(&store);
    assert_no_garbage(&store);
}

#[test]
fn many_taggers() {
    const TAGGERS: usize = 4;
    const NAMES: usize = 40;
    let scratch = Scratch::new();
    let store = scratch.store();
    load(&store, &archive()).unwrap();
    load(&store, &archive_of_other()).unwrap();
    let tagging = AtomicUsize::new(TAGGERS);
    let tag = |tagger: usize, id| {
        let store = scratch.store();
        for number in 0..NAMES {
            let name = Reference::parse(&format!("tagger-{tagger}:{number}")).unwrap();
            store.tag(id, &name).unwrap();
            // One name that they all want.
            store.tag(id, &Reference::parse("wanted").unwrap()).unwrap();
        }
        tagging.fetch_sub(1, Ordering::Relaxed);
    };
    scope(|scope| {
        for tagger in 0..TAGGERS {
            let id = if tagger % 2 == 0 { image().id() } else { other().id() };
            scope.spawn(move || tag(tagger, id));
        }
        while tagging.load(Ordering::Relaxed) > 0 {
            store.collect().unwrap();
            assert_clean(&store);
        }
    });
    let names: usize = state(&store).values().map(|names| names.len()).sum();
    assert_eq!(names, 2 + TAGGERS * NAMES + 1);
    assert_no_garbage(&store);
}
