use std::io::Read;

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::scratch::Scratch;

fn contents(pool: &Pool, id: &ObjectId) -> Vec<u8> {
    let mut bytes = Vec::new();
    pool.get(id).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn contents_come_back() {
    let scratch = Scratch::new();
    let pool = Pool::open(scratch.path()).unwrap();
    for len in [0, 1, 4096, 300_000, 1_000_000] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let first = pool.insert_bytes(&bytes).unwrap();
        assert_eq!(first, Inserted { id: ObjectId::of(&bytes), size: len as u64, new: true });
        assert!(!pool.insert_bytes(&bytes).unwrap().new);
        assert_eq!(contents(&pool, &first.id), bytes);
        assert_eq!(pool.get(&first.id).unwrap().metadata().unwrap().mode() & 0o7777, 0o444);
        pool.verify(&first.id).unwrap();
    }
    assert_eq!(pool.ids().unwrap().len(), 5);
    assert_eq!(std::fs::read_dir(scratch.path().join("tmp")).unwrap().count(), 0);
    pool.sync().unwrap();
}

#[test]
fn zeros_are_holes() {
    let scratch = Scratch::new();
    let pool = Pool::open(scratch.path()).unwrap();
    for (data, hole, rest) in
        [(1, 3_000_000, 1), (70_000, 5_000_000, 0), (0, 1_000_000, 100), (300_000, 10, 9)]
    {
        let mut insert = pool.insert();
        insert.data(&vec![7; data]).unwrap();
        insert.zeros(hole).unwrap();
        insert.data(&vec![9; rest]).unwrap();
        let told = insert.finish().unwrap();
        let mut bytes = vec![7; data];
        bytes.resize(data + hole as usize, 0);
        bytes.resize(bytes.len() + rest, 9);
        assert_eq!(told.id, ObjectId::of(&bytes));
        assert_eq!(contents(&pool, &told.id), bytes);
        // The same found in the data itself.
        pool.remove(&told.id).unwrap();
        assert!(pool.insert_bytes(&bytes).unwrap().new);
        assert_eq!(contents(&pool, &told.id), bytes);
        let on_disk = pool.get(&told.id).unwrap().metadata().unwrap().blocks() * 512;
        assert!(on_disk < 600_000, "{on_disk} bytes for {data}, {hole}, {rest}");
    }
}

#[test]
fn what_is_dropped_is_gone() {
    let scratch = Scratch::new();
    let pool = Pool::open(scratch.path()).unwrap();
    let mut insert = pool.insert();
    insert.data(&vec![1; 1_000_000]).unwrap();
    drop(insert);
    assert_eq!(pool.ids().unwrap(), []);
    assert_eq!(pool.clear_tmp().unwrap(), 0);
}

#[test]
fn two_at_once() {
    let scratch = Scratch::new();
    let pool = Pool::open(scratch.path()).unwrap();
    let new = std::thread::scope(|scope| {
        let insert = || {
            let objects = (0..200_u32).map(|i| pool.insert_bytes(&vec![i as u8; 3000 * i as usize]).unwrap());
            objects.filter(|inserted| inserted.new).count()
        };
        let threads = [scope.spawn(insert), scope.spawn(insert)];
        threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
    });
    assert_eq!((new, pool.ids().unwrap().len()), (200, 200));
}

#[test]
fn a_torn_object_is_replaced_and_a_broken_one_found() {
    let scratch = Scratch::new();
    let pool = Pool::open(scratch.path()).unwrap();
    for bytes in [vec![5; 5000], vec![6; 500_000]] {
        let id = pool.insert_bytes(&bytes).unwrap().id;
        let path = scratch.path().join("objects").join(id.path());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes[..100]).unwrap();
        assert_eq!(pool.verify(&id).unwrap_err().kind(), Kind::Corrupt);
        assert!(pool.insert_bytes(&bytes).unwrap().new);
        pool.verify(&id).unwrap();
        assert_eq!(pool.clear_tmp().unwrap(), 0);
        assert!(pool.remove(&id).unwrap());
        assert!(!pool.remove(&id).unwrap());
        assert_eq!(pool.get(&id).unwrap_err().kind(), Kind::NotFound);
    }
}

/// File systems without unnamed files exist; this machine may have none.
#[test]
fn temporary_names_serve_as_well() {
    let scratch = Scratch::new();
    let pool = Pool::open(scratch.path()).unwrap();
    std::fs::write(scratch.path().join("tmp").join(format!("{}-0", std::process::id())), "left").unwrap();
    let path = ObjectId::of(b"abc").path();
    let mut hidden = insert::Hidden::create_named(&pool).unwrap();
    hidden.write(b"abc", 0..3, 0).unwrap();
    assert!(hidden.publish(&path, 3).unwrap());
    drop(hidden);
    assert_eq!(contents(&pool, &ObjectId::of(b"abc")), b"abc");
    drop(insert::Hidden::create_named(&pool).unwrap());
    assert_eq!(pool.clear_tmp().unwrap(), 1);
}

#[test]
fn a_full_disk_is_named() {
    let script = r#"mount -t tmpfs -o size=1m none "$1" && exec "$2" --exact pool::tests::on_a_full_disk --ignored --nocapture"#;
    let scratch = Scratch::new();
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-ec", script, "sh"])
        .arg(scratch.path())
        .arg(std::env::current_exe().unwrap())
        .env("LAYERSTORE_FULL_DISK", scratch.path())
        .output();
    let Ok(output) = output else { return println!("skipped: no unshare(1)") };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare") || said.contains("mount:") {
        return println!("skipped: {}", said.trim());
    }
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}{said}");
}

#[test]
#[ignore = "the body of a_full_disk_is_named, on a small file system"]
fn on_a_full_disk() {
    let Some(dir) = std::env::var_os("LAYERSTORE_FULL_DISK") else {
        return println!("skipped: not on a small file system");
    };
    let pool = Pool::open(&dir).unwrap();
    let error = pool.insert_bytes(&vec![1; 2 << 20]).unwrap_err();
    assert_eq!(error.kind(), Kind::System);
    let text = error.to_string();
    assert!(text.contains(&*dir.to_string_lossy()) && text.contains("No space left"), "{text}");
    assert_eq!((pool.ids().unwrap(), pool.clear_tmp().unwrap()), (vec![], 0));
    assert!(pool.insert_bytes(&vec![1; 1 << 19]).unwrap().new);
}
