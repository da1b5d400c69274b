use super::*;
use crate::Silent;

fn spec(cache_dir: &Path) -> TreeSpec {
    TreeSpec {
        purpose: Purpose::Node,
        suite: "trixie".to_owned(),
        cache_dir: cache_dir.to_owned(),
        key_extra: None,
        sources: None,
    }
}

/// A directory that looks like a complete tree.
fn plant(cache: &Path, spec: &TreeSpec, built: u64) -> PathBuf {
    let path = cache
        .join("trees")
        .join(format!("{}-{}-{built}", spec.suite, key(spec)));
    fs::create_dir_all(path.join("root")).expect("made");
    let label = Label {
        suite: spec.suite.clone(),
        key: key(spec),
        built,
    };
    fs::write(
        path.join("tree.json"),
        serde_json::to_string(&label).expect("JSON"),
    )
    .expect("written");
    path
}

#[test]
fn every_input_changes_the_key_and_parts_do_not_run_together() {
    let base = spec(Path::new("/c"));
    let sources = |list: &[&str]| TreeSpec {
        sources: Some(list.iter().map(|s| (*s).to_owned()).collect()),
        ..base.clone()
    };
    let keys = [
        key(&base),
        key(&TreeSpec {
            suite: "bookworm".to_owned(),
            ..base.clone()
        }),
        key(&TreeSpec {
            key_extra: Some("snapshot".to_owned()),
            ..base.clone()
        }),
        key(&TreeSpec {
            purpose: Purpose::Outside,
            ..base.clone()
        }),
        key(&sources(&["ab", "c"])),
        key(&sources(&["a", "bc"])),
    ];
    for (at, one) in keys.iter().enumerate() {
        assert_eq!(one.len(), 16);
        assert!(!keys[at + 1..].contains(one));
    }
    assert_eq!(
        key(&base),
        key(&TreeSpec {
            cache_dir: "/elsewhere".into(),
            ..base
        }),
        "where trees are kept is no input"
    );
}

#[test]
fn the_newest_complete_tree_is_taken_and_no_half_built_one() {
    let cache = tempfile::tempdir().expect("a directory");
    let spec = spec(cache.path());
    plant(cache.path(), &spec, 100);
    let new = plant(cache.path(), &spec, 200);
    let half = cache.path().join("trees/.building-x");
    fs::rename(plant(cache.path(), &spec, 300), half).expect("renamed");
    let tree = ensure(&spec, false, &Silent).expect("known");
    assert_eq!((tree.root, tree.built), (new.join("root"), 200));
}

#[test]
fn replaced_and_forgotten_trees_go_unless_a_lab_stands_on_them() {
    let cache = tempfile::tempdir().expect("a directory");
    let lab = tempfile::tempdir().expect("a directory");
    let spec = spec(cache.path());
    let trees = cache.path().join("trees");
    let [free, held, new] = [1, 2, 3].map(|built| plant(cache.path(), &spec, built));
    let half = trees.join(".building-x");
    fs::create_dir(&half).expect("made");
    let tree = read(&held).expect("a tree");
    tree.hold("lab-x", lab.path()).expect("held");
    fs::write(lab.path().join("lab.json"), "{}").expect("written");

    let now = SystemTime::now();
    let none: [PathBuf; 0] = [];
    assert_eq!(clear(&trees, now).expect("cleared"), none, "just asked for");
    assert!(!half.exists());
    let soon = now + RECENT + Duration::from_secs(60);
    assert_eq!(
        clear(&trees, soon).expect("cleared"),
        [free],
        "replaced, and nobody's"
    );
    release(&tree.root, "lab-x").expect("released");
    assert_eq!(
        clear(&trees, soon).expect("cleared"),
        [held],
        "nobody's any more"
    );
    assert_eq!(
        clear(&trees, now + KEPT - RECENT).expect("cleared"),
        none,
        "the newest is kept"
    );
    let later = now + KEPT + Duration::from_secs(60);
    let backdated = fs::File::options()
        .append(true)
        .open(new.join("tree.json"))
        .expect("opened");
    backdated.set_modified(now - KEPT).expect("set");
    ensure(&spec, false, &Silent).expect("known");
    assert_eq!(
        clear(&trees, now + RECENT).expect("cleared"),
        none,
        "asked for again"
    );
    assert_eq!(clear(&trees, later).expect("cleared"), [new], "forgotten");
}

#[test]
fn an_unknown_suite_is_refused() {
    let spec = TreeSpec {
        suite: "sid".to_owned(),
        ..spec(Path::new("/nonexistent"))
    };
    assert!(
        ensure(&spec, false, &Silent)
            .expect_err("refused")
            .to_string()
            .contains("neither trixie nor bookworm")
    );
}
