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
