//! One suite for both stores, and what only the disk can do.

use std::sync::Arc;

use super::{Batch, MemoryStore, SledStore, Store, StoreError, Writer};

fn put(store: &dyn Store, key: &str, value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(key.as_bytes(), value);
    store.commit(batch).expect("committed");
}

fn suite(store: &dyn Store) {
    assert!(store.scan(b"").expect("readable").is_empty());
    let large: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    put(store, "b/large", &large);
    put(store, "a", b"");
    put(store, "a\0", b"x");
    put(store, "b/1", b"one");
    let keys = |prefix: &[u8]| -> Vec<Vec<u8>> {
        store.scan(prefix).expect("readable").into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(b"a"), [b"a".to_vec(), b"a\0".to_vec()]);
    assert_eq!(keys(b"a\0"), [b"a\0".to_vec()]);
    assert_eq!(store.scan(b"b/l").expect("readable"), [(b"b/large".to_vec(), large)]);
    // A shorter value leaves nothing of the longer one behind; order inside a batch counts.
    let mut batch = Batch::default();
    batch.put(*b"b/large", *b"small");
    batch.put(*b"b/1", *b"two");
    batch.put(*b"b/1", *b"three");
    batch.delete(*b"a");
    batch.delete(*b"never there");
    store.commit(batch).expect("committed");
    let all = store.scan(b"").expect("readable");
    let expected = [(&b"a\0"[..], &b"x"[..]), (b"b/1", b"three"), (b"b/large", b"small")];
    assert_eq!(all, expected.map(|(key, value)| (key.to_vec(), value.to_vec())));
}

#[test]
fn memory_keeps_the_contract() {
    suite(&MemoryStore::default());
}

#[test]
fn sled_keeps_the_contract_and_remembers() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(folder.path()).expect("opened");
    suite(&store);
    let before = store.scan(b"").expect("readable");
    drop(store);
    let store = SledStore::open(folder.path()).expect("opened again");
    assert_eq!(store.scan(b"").expect("readable"), before);
    let blobs = std::fs::read_dir(folder.path().join("blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0, "sled never syncs blobs: there must be none");
}

#[test]
fn a_second_opener_is_told_who_holds_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let _held = SledStore::open(folder.path()).expect("opened");
    let Err(error) = SledStore::open(folder.path()) else { panic!("opened twice") };
    assert!(
        matches!(&error, StoreError::Locked(text) if text.contains(&folder.path().display().to_string())),
        "{error}"
    );
}

#[test]
fn a_flipped_byte_is_found() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(folder.path()).expect("opened");
    let marker = b"a value that is easy to find in the file";
    put(&store, "key", marker);
    drop(store);
    let path = folder.path().join("db");
    let mut bytes = std::fs::read(&path).expect("readable");
    let found: Vec<usize> =
        (0..bytes.len() - marker.len()).filter(|at| bytes[*at..].starts_with(marker)).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at + 3] ^= 0x40;
    }
    std::fs::write(&path, bytes).expect("writable");
    // sled drops it without a word.
    let read = SledStore::open(folder.path()).and_then(|store| store.scan(b""));
    let Err(StoreError::Damaged(text)) = read else { panic!("unexpected: {read:?}") };
    assert!(text.contains("lost") || text.contains("damaged"), "{text}");
}

#[tokio::test]
async fn the_writer_keeps_order_and_reports() {
    let store = Arc::new(MemoryStore::default());
    let (sender, mut persisted) = tokio::sync::mpsc::unbounded_channel();
    let writer = Writer::start(Arc::clone(&store) as _, sender).expect("a thread");
    for seq in 1..=1_000_u64 {
        let mut batch = Batch::default();
        batch.put(*b"last", seq.to_be_bytes());
        writer.submit(seq, batch);
    }
    let mut reached = 0;
    while reached < 1_000 {
        let next = persisted.recv().await.expect("a report").expect("committed");
        assert!(next > reached);
        reached = next;
    }
    assert_eq!(store.scan(b"last").expect("readable")[0].1, 1_000_u64.to_be_bytes());
}

struct Failing;

impl Store for Failing {
    fn scan(&self, _prefix: &[u8]) -> Result<Vec<super::Pair>, StoreError> {
        Ok(Vec::new())
    }

    fn commit(&self, _batch: Batch) -> Result<(), StoreError> {
        Err(StoreError::Failed("no room".to_owned()))
    }
}

#[tokio::test]
async fn the_writer_acknowledges_nothing_after_a_failure() {
    let (sender, mut persisted) = tokio::sync::mpsc::unbounded_channel();
    let writer = Writer::start(Arc::new(Failing), sender).expect("a thread");
    let mut batch = Batch::default();
    batch.put(*b"k", *b"v");
    writer.submit(1, batch.clone());
    writer.submit(2, batch);
    assert_eq!(persisted.recv().await, Some(Err(StoreError::Failed("no room".to_owned()))));
    assert_eq!(persisted.recv().await, None);
}

/// Writes much, removes nearly all of it, and closes.
fn swollen(path: &std::path::Path) -> Vec<super::Pair> {
    let store = SledStore::open(path).expect("opened");
    let key = |number: u32| [b"log/".as_slice(), &number.to_be_bytes()].concat();
    for round in 0..40 {
        let mut batch = Batch::default();
        for number in 0..100 {
            batch.put(key(round * 100 + number), vec![round.to_le_bytes()[0]; 2_000]);
        }
        store.commit(batch).expect("committed");
    }
    let mut batch = Batch::default();
    (0..3_990).for_each(|number| batch.delete(key(number)));
    batch.put_file(*b"snapshot", vec![7; 30_000]);
    store.commit(batch).expect("committed");
    assert!(store.size_on_disk().expect("readable") > 4_000_000, "sled gives room back by itself now");
    store.scan(b"").expect("readable")
}

fn size(path: &std::path::Path) -> u64 {
    std::fs::metadata(path.join("db")).expect("there").len()
}

#[test]
fn a_file_that_has_become_too_large_is_written_anew() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path();
    let pairs = swollen(path);
    let before = size(path);
    // What a crash before the end leaves is not used.
    std::fs::create_dir(path.join("rewrite-begun")).expect("made");
    std::fs::write(path.join("rewrite-begun/db"), b"half of it").expect("written");
    drop(super::open::open(path, u64::MAX, None).map(|opened| drop(opened.db)));
    assert!(!path.join("rewrite-begun").exists());
    assert!(size(path) >= before, "it is not too large by so much");
    let opened = super::open::open(path, 100_000, None).expect("opened");
    drop(opened);
    assert!(size(path) * 4 < before, "{before} became {}", size(path));
    let store = SledStore::open(path).expect("opened again");
    assert_eq!(store.scan(b"").expect("readable"), pairs);
    put(&store, "more", b"value");
    drop(store);
    assert_eq!(SledStore::open(path).expect("and again").scan(b"more").expect("readable").len(), 1);
}

#[test]
fn a_crash_while_a_file_is_written_anew_leaves_the_old_one_or_the_new_one() {
    let folder = tempfile::tempdir().expect("a directory");
    let original = folder.path().join("original");
    std::fs::create_dir(&original).expect("made");
    let pairs = swollen(&original);
    let before = size(&original);
    // How far it came: each step after the file is whole may be the last.
    let steps: [fn(&std::path::Path); 4] = [
        |_| (),
        |path| super::open::remove_snapshots(path).expect("removed"),
        |path| {
            super::open::remove_snapshots(path).expect("removed");
            std::fs::write(path.join("rewrite/cleared"), b"").expect("written");
        },
        |path| {
            super::open::remove_snapshots(path).expect("removed");
            std::fs::write(path.join("rewrite/cleared"), b"").expect("written");
            for snapshot in super::open::snapshot_files(&path.join("rewrite")).expect("readable") {
                let name = snapshot.file_name().expect("a name");
                std::fs::rename(&snapshot, path.join(name)).expect("moved");
            }
        },
    ];
    for (number, step) in steps.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        std::fs::create_dir(&path).expect("made");
        super::damage_tests::copy(&original, &path);
        let opened = super::open::open(&path, u64::MAX, None).expect("opened");
        let rewritten = super::rewrite::Rewritten::write(&path, &opened.db).expect("written");
        drop(opened);
        rewritten.commit(&path).expect("whole");
        let old = super::open::snapshot_files(&path).expect("readable");
        assert!(!old.is_empty());
        step(&path);
        super::rewrite::finish(&path).expect("finished");
        assert!(!old.iter().any(|old| old.exists()), "step {number}: {old:?} are of the old file");
        let store = SledStore::open(&path).expect("the new one");
        assert_eq!(store.scan(b"").expect("readable"), pairs, "step {number}");
        assert!(size(&path) * 4 < before, "step {number}");
        assert!(!path.join("rewrite").exists(), "step {number}");
        put(&store, "more", b"value");
    }
    // The last step but the removal of the directory.
    let path = folder.path().join("0");
    std::fs::create_dir(path.join("rewrite")).expect("made");
    let store = SledStore::open(&path).expect("opened");
    assert_eq!(store.scan(b"").expect("readable").len(), pairs.len() + 1);
}
