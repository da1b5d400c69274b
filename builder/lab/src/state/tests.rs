use super::*;

fn node(index: u32) -> NodeState {
    NodeState {
        index,
        address: Ipv4Addr::new(10, 77, 0, 11),
        public_address: Ipv4Addr::new(10, 78, 0, 11),
        roles: vec!["app".to_owned()],
        tree: "/t".into(),
        group: "lab-acme/a-1".to_owned(),
        stage: Stage::Started {
            nspawn: Process { pid: 7, started: 8 },
            leader: Process {
                pid: 9,
                started: 10,
            },
        },
    }
}

#[test]
fn what_is_saved_is_loaded() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::at(directory.path());
    assert_eq!(store.load().expect("no lab is no error"), None);
    let mut state = State::new("acme", directory.path());
    state.nodes.insert("a".to_owned(), node(1));
    store.save(&state).expect("saved");
    assert_eq!(store.load().expect("loaded"), Some(state.clone()));
    state.nodes.insert("b".to_owned(), node(3));
    assert_eq!(state.free_index(), 2);
}

#[test]
fn clearing_leaves_an_empty_directory_also_after_a_killed_save() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::at(directory.path());
    let lock = store.lock().expect("free");
    store
        .save(&State::new("acme", directory.path()))
        .expect("saved");
    fs::write(directory.path().join(".lab.json.half"), "{").expect("written");
    fs::create_dir_all(store.nodes().join("a/upper")).expect("made");
    fs::write(directory.path().join(KEPT), "{}").expect("written");
    fs::write(directory.path().join(".rolesmith-tmp-x"), "{").expect("written");
    store.clear().expect("cleared");
    assert!(directory.path().join(KEPT).exists(), "not the record's");
    store.forget_kept().expect("removed");
    lock.remove().expect("removed");
    assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 0);
}

#[test]
fn a_lab_has_one_master() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::at(directory.path());
    let lock = store.lock().expect("free");
    assert!(matches!(store.lock(), Err(LabError::Busy(_))));
    drop(lock);
    store.lock().expect("free again");
}

#[test]
fn a_record_of_another_version_or_a_broken_one_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::at(directory.path());
    let mut state = State::new("acme", directory.path());
    state.version += 1;
    store.save(&state).expect("saved");
    assert!(
        store
            .load()
            .expect_err("refused")
            .to_string()
            .contains("version 2")
    );
    fs::write(directory.path().join("lab.json"), "{\"version\": 1").expect("written");
    assert!(matches!(store.load(), Err(LabError::State { .. })));
}

#[test]
fn equal_names_in_different_directories_get_different_ids() {
    assert_ne!(
        State::new("acme", Path::new("/a")).id,
        State::new("acme", Path::new("/b")).id
    );
}

#[test]
fn two_checkouts_of_one_fleet_have_two_labs() {
    let root = Path::new("/var/lib/rolesmith-lab");
    let lab = |fleet: &str| super::state_dir(root, "acme", Path::new(fleet));
    assert_eq!(lab("/home/ann/acme"), lab("/home/ann/acme"));
    assert_ne!(lab("/home/ann/acme"), lab("/home/bob/acme"));
    let id = |fleet: &str| State::new("acme", &lab(fleet)).id;
    assert_ne!(id("/home/ann/acme"), id("/home/bob/acme"));
    assert!(
        lab("/home/ann/acme")
            .to_str()
            .is_some_and(|path| path.starts_with("/var/lib/rolesmith-lab/labs/acme-"))
    );
}

#[test]
fn an_id_is_known_by_its_directory_without_the_name() {
    let (here, there) = (Path::new("/a"), Path::new("/b"));
    for name in ["acme", "a-b", "lab"] {
        let id = State::new(name, here).id;
        assert!(is_id_of(&id, here) && !is_id_of(&id, there), "{id}");
        assert!(!is_id_of(&format!("not-{id}"), here), "{id}");
    }
    let hash = short_hash(here);
    for other in [
        "",
        "lab-",
        &hash,
        &format!("lab-{hash}"),
        &format!("lab--{hash}"),
    ] {
        assert!(!is_id_of(other, here), "{other}");
    }
}
