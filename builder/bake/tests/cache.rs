//! Layers that are damaged, half-written or cannot be written: what is said, what is left, and that the next run works.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rolesmith_bake::{
    BakeError,
    cache::{Cache, Layer, verify},
};
use rolesmith_host::atomic;

const KEY: &str = "00112233445566778899aabbccddeeff";

fn open(root: &Path) -> Cache {
    Cache::open(root, || panic!("nobody else has it")).expect("it opens")
}

/// The layer with these bytes, made where it is not there.
fn layer(cache: &Cache, bytes: &[u8]) -> Result<Layer, BakeError> {
    cache.layer("base", KEY, |to| {
        fs::write(to, bytes).map_err(BakeError::file("write", to))
    })
}

/// Names in the directory that promise something whole.
fn layers(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).expect("it is there");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("it is read")
                .file_name()
                .into_string()
                .expect("text")
        })
        .filter(|name| name.starts_with("base-"))
        .collect();
    names.sort();
    names
}

fn made(root: &Path) -> PathBuf {
    let cache = open(root);
    let first = layer(&cache, b"tree").expect("it is made");
    assert!(first.made);
    let again = layer(&cache, b"not asked for").expect("it is there");
    assert!(!again.made && again.sha256 == first.sha256);
    verify(&again).expect("it is whole");
    again.path
}

#[test]
fn a_layer_with_another_byte_is_refused_and_named_and_made_anew_once_removed() {
    let root = tempfile::tempdir().expect("a directory");
    let path = made(root.path());
    fs::write(&path, b"tr3e").expect("it is damaged");
    let cache = open(root.path());
    let damaged = layer(&cache, b"tree").expect("its size is right");
    let error = verify(&damaged).expect_err("its bytes are not");
    assert!(matches!(&error, BakeError::Corrupt { path: named } if *named == path));
    assert!(error.help().contains(&path.display().to_string()));
    fs::remove_file(&path).expect("as the help says");
    assert!(layer(&cache, b"tree").expect("it is made").made);
}

#[test]
fn a_layer_that_was_cut_off_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    let path = made(root.path());
    let file = File::options().write(true).open(&path).expect("it opens");
    file.set_len(2).expect("it is cut off");
    let error = layer(&open(root.path()), b"tree").expect_err("its size is wrong");
    assert!(matches!(error, BakeError::Corrupt { .. }), "{error}");
}

/// Killed between the layer's name and its note: nothing says what its bytes should be.
#[test]
fn a_layer_without_its_note_is_made_anew() {
    let root = tempfile::tempdir().expect("a directory");
    let path = made(root.path());
    let note = root.path().join(format!("base-{KEY}.tar.sum"));
    for text in [None, Some("half")] {
        match text {
            None => fs::remove_file(&note).expect("it was there"),
            Some(text) => fs::write(&note, text).expect("it is written"),
        }
        fs::write(&path, b"whatever").expect("it is written");
        let cache = open(root.path());
        assert!(layer(&cache, b"tree").expect("it is made").made);
        assert_eq!(fs::read(&path).expect("it is there"), b"tree");
    }
}

/// Killed while a layer was written.
#[test]
fn what_a_killed_run_left_is_no_layer_and_goes() {
    let root = tempfile::tempdir().expect("a directory");
    let half = atomic::temp_beside(&root.path().join(format!("base-{KEY}.tar")));
    fs::write(&half, b"tr").expect("it is written");
    let cache = open(root.path());
    assert!(!half.exists());
    assert!(layer(&cache, b"tree").expect("it is made").made);
}

#[test]
fn a_step_that_fails_leaves_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = open(root.path());
    let error = cache.layer("base", KEY, |to| {
        fs::write(to, b"tr").map_err(BakeError::file("write", to))?;
        // A disk that is full.
        File::options()
            .write(true)
            .open("/dev/full")
            .and_then(|mut full| full.write_all(b"ee"))
            .map_err(BakeError::file("write", to))
    });
    let error = error.expect_err("the disk is full");
    assert!(
        matches!(&error, BakeError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull),
        "{error}"
    );
    assert!(error.help().contains("make room"));
    assert_eq!(layers(root.path()), [""; 0]);
    let left = fs::read_dir(root.path()).expect("it is there");
    let left: Vec<_> = left
        .map(|entry| entry.expect("it is read").file_name())
        .filter(|name| atomic::is_temp(name))
        .collect();
    assert_eq!(left, [""; 0]);
    assert!(layer(&cache, b"tree").expect("it is made").made);
}

/// A directory that nobody may write to, and a file where a directory should be.
#[test]
fn a_cache_that_cannot_be_is_named() {
    let root = tempfile::tempdir().expect("a directory");
    let file = root.path().join("cache");
    fs::write(&file, "").expect("it is written");
    let error = Cache::open(&file, || {}).expect_err("it is a file");
    assert!(error.to_string().contains("cache"), "{error}");
    assert!(!error.help().is_empty());
}
