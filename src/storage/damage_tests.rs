//! Disks that lose, change or refuse what was written: a store has what was acknowledged, or says what is
//! damaged.
//!
//! `MESITA_FLIPS` sets how many places of sled's file are damaged blindly (the default keeps the suite
//! short).

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Batch, Fault, FaultKind, Faults, MemoryStore, Pair, SledStore, Store, StoreError};

/// Places of a short run.
const FLIPS: usize = 120;

/// What a log leaves behind that was written, replaced and cut for a while.
fn fill(store: &dyn Store) -> Vec<Pair> {
    for round in 0..120_u32 {
        let mut batch = Batch::default();
        batch.put([b"log/".as_slice(), &round.to_be_bytes()].concat(), vec![round.to_le_bytes()[0]; 120]);
        batch.put(*b"meta", round.to_be_bytes());
        if round % 40 == 39 {
            batch.put_file(*b"snapshot", vec![round.to_le_bytes()[0]; 30_000]);
            for old in round - 39..round - 10 {
                batch.delete([b"log/".as_slice(), &old.to_be_bytes()].concat());
            }
        }
        store.commit(batch).expect("committed");
    }
    store.scan(b"").expect("readable")
}

pub(super) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("readable").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

fn open_and_read(path: &Path) -> Result<Vec<Pair>, StoreError> {
    SledStore::open(path).and_then(|store| store.scan(b""))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[at] ^= 0x04;
    fs::write(path, bytes).expect("writable");
}

/// Opens a copy of a store after `harm`: everything is there, or the damage is named. True if it is named.
fn is_refused(original: &Path, expected: &[Pair], harm: impl FnOnce(&Path)) -> bool {
    let folder = tempfile::tempdir().expect("a directory");
    copy(original, folder.path());
    harm(folder.path());
    match open_and_read(folder.path()) {
        Ok(pairs) => {
            assert!(pairs == expected, "a damaged store was read as if it were whole");
            false
        }
        Err(StoreError::Damaged(what) | StoreError::Newer(what)) => {
            assert!(what.contains(&folder.path().display().to_string()), "{what}");
            true
        }
        Err(other) => panic!("not what a damaged store says: {other}"),
    }
}

fn original() -> (tempfile::TempDir, Vec<Pair>) {
    let folder = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(folder.path()).expect("opened");
    let pairs = fill(&store);
    (folder, pairs)
}

#[test]
fn a_flipped_byte_anywhere_is_harmless_or_found() {
    let flips = std::env::var("MESITA_FLIPS").ok().and_then(|it| it.parse().ok()).unwrap_or(FLIPS);
    let (folder, pairs) = original();
    let length = fs::metadata(folder.path().join("db")).expect("there").len();
    let length = usize::try_from(length).expect("small");
    let mut refused = 0;
    for number in 0..flips {
        // A prime stride meets heads, keys and values alike.
        let at = number * (length / flips) + number * 7_919 % (length / flips);
        refused += usize::from(is_refused(folder.path(), &pairs, |path| flip(&path.join("db"), at)));
    }
    assert!(refused > flips / 10, "only {refused} of {flips} flips were noticed: is the file mostly empty?");
}

#[test]
fn a_flipped_byte_in_any_other_file_is_harmless_or_found() {
    let (folder, pairs) = original();
    let value = fs::read_dir(folder.path())
        .expect("readable")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".value"))
        .collect::<Vec<_>>();
    assert_eq!(value.len(), 1, "superseded files are removed: {value:?}");
    for at in [0, 1, 15_000, 29_999] {
        assert!(is_refused(folder.path(), &pairs, |path| flip(&path.join(&value[0]), at)));
    }
    assert!(is_refused(folder.path(), &pairs, |path| flip(&path.join("format"), 0)));
    assert!(is_refused(folder.path(), &pairs, |path| fs::remove_file(path.join(&value[0])).expect("gone")));
    assert!(is_refused(folder.path(), &pairs, |path| fs::remove_file(path.join("mark")).expect("gone")));
    for at in 0..56 {
        // One of the two copies is enough.
        assert!(!is_refused(folder.path(), &pairs, |path| flip(&path.join("mark"), at)));
    }
    for at in 0..fs::metadata(folder.path().join("conf")).expect("there").len() {
        let at = usize::try_from(at).expect("small");
        is_refused(folder.path(), &pairs, |path| flip(&path.join("conf"), at));
    }
}

#[test]
fn a_cut_tail_is_found() {
    let (folder, pairs) = original();
    let length = fs::metadata(folder.path().join("db")).expect("there").len();
    let mut refused = 0;
    for part in 1..16 {
        refused += usize::from(is_refused(folder.path(), &pairs, |path| {
            let file = fs::OpenOptions::new().write(true).open(path.join("db")).expect("opened");
            file.set_len(length * part / 16).expect("cut");
        }));
    }
    assert!(refused > 0);
    assert!(is_refused(folder.path(), &pairs, |path| fs::remove_file(path.join("db")).expect("gone")));
}

#[test]
fn an_older_copy_of_the_data_is_found() {
    let folder = tempfile::tempdir().expect("a directory");
    let older = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(folder.path()).expect("opened");
    fill(&store);
    drop(store);
    copy(folder.path(), older.path());
    let store = SledStore::open(folder.path()).expect("opened");
    fill(&store);
    drop(store);
    fs::copy(older.path().join("db"), folder.path().join("db")).expect("copied");
    let error = open_and_read(folder.path()).expect_err("the last commits are gone");
    assert!(error.to_string().contains("the last of them are lost"), "{error}");
}

fn one_more(store: &dyn Store, number: u8) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.put([b'k', number], vec![number; 300]);
    batch.put(*b"last", [number]);
    store.commit(batch)
}

/// Commits until a fault comes; answers the last number that was acknowledged, and what was said.
fn until_it_fails(store: &dyn Store) -> (u8, String) {
    for number in 1..100 {
        if let Err(error) = one_more(store, number) {
            assert!(one_more(store, number).is_err() && store.scan(b"").is_err(), "nothing more is done");
            return (number - 1, error.to_string());
        }
    }
    panic!("no fault came");
}

#[test]
fn after_a_fault_everything_acknowledged_is_there() {
    for (kind, says) in [
        (FaultKind::SyncFails, "did not confirm"),
        (FaultKind::NoSpace, "full"),
        (FaultKind::TornTail, "power"),
    ] {
        let folder = tempfile::tempdir().expect("a directory");
        let faults = Faults::default();
        faults.arm("registry", Fault::from(kind, 20));
        let store = SledStore::open_with(folder.path(), "registry", faults, None).expect("opened");
        let (acknowledged, said) = until_it_fails(&store);
        assert_eq!(acknowledged, 20, "{kind:?}");
        let path = folder.path().display().to_string();
        assert!(said.contains(says) && said.contains(&path), "{said}");
        drop(store);
        let store = SledStore::open(folder.path()).expect("opened again");
        let last = store.scan(b"last").expect("readable")[0].1[0];
        // What was not acknowledged may be there all the same.
        assert!(last == 20 || last == 21, "{kind:?}: {last}");
        for number in 1..=last {
            assert_eq!(store.scan(&[b'k', number]).expect("readable")[0].1, vec![number; 300]);
        }
        one_more(&store, 90).expect("it goes on");
    }
}

#[test]
fn a_byte_that_changes_later_is_found() {
    for after in 0..20 {
        let folder = tempfile::tempdir().expect("a directory");
        let faults = Faults::default();
        faults.arm("registry", Fault::once(FaultKind::FlippedByte, after));
        let store = SledStore::open_with(folder.path(), "registry", faults, None).expect("opened");
        for number in 0..20 {
            one_more(&store, number).expect("nothing is noticed yet");
        }
        let before = store.scan(b"").expect("readable");
        drop(store);
        match open_and_read(folder.path()) {
            // The page was written again since then.
            Ok(pairs) => assert_eq!(pairs, before),
            Err(error) => assert!(matches!(error, StoreError::Damaged(_)), "{error}"),
        }
    }
}

#[test]
fn a_slow_disk_is_slow_and_memory_has_faults_too() {
    let faults = Faults::default();
    faults.arm("m", Fault::once(FaultKind::SyncSlow(Duration::from_millis(30)), 1));
    faults.arm("m", Fault::once(FaultKind::SyncFails, 2));
    let store = MemoryStore::with_faults("m", faults);
    one_more(&store, 1).expect("committed");
    #[expect(clippy::disallowed_methods, reason = "the delay is what is tested")]
    let start = std::time::Instant::now();
    one_more(&store, 2).expect("committed");
    assert!(start.elapsed() >= Duration::from_millis(30));
    one_more(&store, 3).expect_err("the fault");
    one_more(&store, 4).expect_err("broken");
    store.reopen();
    assert_eq!(store.scan(b"last").expect("readable")[0].1, [2]);
    one_more(&store, 5).expect("committed");
}

#[test]
fn a_failed_snapshot_leaves_the_one_before() {
    let folder = tempfile::tempdir().expect("a directory");
    let faults = Faults::default();
    let store = SledStore::open_with(folder.path(), "registry", faults.clone(), None).expect("opened");
    let snapshot = |store: &SledStore, text: &str| {
        let mut batch = Batch::default();
        batch.put_file(*b"snapshot", text.as_bytes());
        store.commit(batch)
    };
    snapshot(&store, "one").expect("committed");
    faults.arm("registry", Fault::from(FaultKind::SyncFails, 0));
    snapshot(&store, "two").expect_err("the disk did not confirm it");
    drop(store);
    let left = || -> usize {
        let names = fs::read_dir(folder.path()).expect("readable").flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".value")).count()
    };
    let store = SledStore::open(folder.path()).expect("opened again");
    assert_eq!(store.scan(b"").expect("readable"), [(b"snapshot".to_vec(), b"one".to_vec())]);
    fs::write(folder.path().join("snapshot-77.value"), "what a crash left").expect("written");
    drop(store);
    let store = SledStore::open(folder.path()).expect("opened again");
    snapshot(&store, "three").expect("committed");
    assert_eq!(left(), 1, "what nothing refers to is removed");
    drop(store);
    assert_eq!(open_and_read(folder.path()).expect("readable")[0].1, b"three");
}

/// A store as the first version wrote it: pieces, and nothing else.
fn first_format(path: &Path, pairs: &[(&[u8], &[u8])]) {
    let db = sled::open(path).expect("opened");
    for (key, value) in pairs {
        for (number, piece) in super::pieces::cut(key, value).expect("short enough") {
            db.insert(super::pieces::piece_key(key, number), piece).expect("written");
        }
    }
    db.flush().expect("flushed");
}

#[test]
fn a_store_of_the_first_format_goes_on_in_the_newest() {
    let folder = tempfile::tempdir().expect("a directory");
    let snapshot = vec![7; 50_000];
    first_format(folder.path(), &[(b"meta", b"m"), (b"snapshot", &snapshot)]);
    let store = SledStore::open(folder.path()).expect("opened");
    assert_eq!(store.scan(b"snapshot").expect("readable"), [(b"snapshot".to_vec(), snapshot)]);
    drop(store);
    assert_eq!(fs::read_to_string(folder.path().join("format")).expect("there"), "2\n");
    let store = SledStore::open(folder.path()).expect("opened again");
    let mut batch = Batch::default();
    batch.put_file(*b"snapshot", vec![8; 60_000]);
    store.commit(batch).expect("committed");
    drop(store);
    let pairs = open_and_read(folder.path()).expect("readable");
    assert_eq!(pairs, [(b"meta".to_vec(), b"m".to_vec()), (b"snapshot".to_vec(), vec![8; 60_000])]);
    let db = sled::open(folder.path()).expect("opened");
    assert_eq!(db.scan_prefix(b"snapshot").count(), 1, "its pieces are gone");
}

#[test]
fn what_a_later_version_wrote_is_refused_and_not_touched() {
    let (folder, _) = original();
    fs::write(folder.path().join("format"), "3\n").expect("written");
    let look = || -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(folder.path())
            .expect("readable")
            .flatten()
            .filter(|entry| entry.path().is_file())
            .map(|entry| {
                let content = fs::read(entry.path()).expect("readable");
                (entry.file_name().to_string_lossy().into_owned(), content)
            })
            .collect();
        files.sort();
        files
    };
    let before = look();
    let error = open_and_read(folder.path()).expect_err("a later version's");
    let says = error.to_string();
    assert!(matches!(error, StoreError::Newer(_)) && says.contains("format 3") && says.contains("upgrade"));
    assert!(look() == before, "something was changed");
}

/// sled opens without a word when a page of its file is lost, or an older one is found in its place.
#[test]
fn a_value_that_is_lost_or_older_than_the_rest_is_found() {
    let (original, pairs) = original();
    let meta = super::pieces::piece_key(b"meta", 0);
    let older = {
        let folder = tempfile::tempdir().expect("a directory");
        let store = SledStore::open(folder.path()).expect("opened");
        let mut batch = super::Batch::default();
        batch.put(*b"meta", 7_u32.to_be_bytes());
        store.commit(batch).expect("committed");
        drop(store);
        let db = super::open::open_sled(folder.path()).expect("sled opens it");
        db.get(&meta).expect("readable").expect("there")
    };
    let harms: [&dyn Fn(&sled::Db); 3] =
        [&|_| (), &|db| drop(db.remove(&meta).expect("removed").expect("it was there")), &|db| {
            drop(db.insert(&meta, &older).expect("replaced").expect("it was there"))
        }];
    for (number, harm) in harms.iter().enumerate() {
        let is_named = is_refused(original.path(), &pairs, |path| {
            let db = super::open::open_sled(path).expect("sled opens it");
            harm(&db);
            db.flush().expect("flushed");
        });
        assert_eq!(is_named, number > 0, "harm {number}");
    }
}
