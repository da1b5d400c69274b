use std::fs;

use super::*;

#[test]
fn data_are_whole_once_marked_and_only_while_they_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    assert_eq!(data(&root, "b1"), Data::Empty);
    // A log alone may be a copy that was never completed, and a mark alone speaks of nothing.
    let log = root.join(SERVER_DIR).join(MANIFEST);
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(&log, "file appendonly.aof.1.base.rdb seq 1 type b\n").unwrap();
    assert_eq!(data(&root, "b1"), Data::Empty);
    mark(&root, "b1").unwrap();
    assert_eq!(data(&root, "b1"), Data::Complete { same_boot: true });
    assert_eq!(data(&root, "b2"), Data::Complete { same_boot: false });
    // A boot that cannot be told may be any.
    assert_eq!(data(&root, ""), Data::Complete { same_boot: false });
    unmark(&root).unwrap();
    unmark(&root).unwrap();
    assert_eq!(data(&root, "b1"), Data::Empty);
    mark(&root, "b1").unwrap();
    fs::remove_file(&log).unwrap();
    assert_eq!(data(&root, "b1"), Data::Empty);
}

#[test]
fn who_waits_is_told_before_what_runs() {
    let running = Report::Running {
        role: "master".to_owned(),
        master: Some("n1".to_owned()),
        epoch: Some(4),
        sentinels: 3,
        voters: 3,
        replicas: Some(2),
        alarms: vec!["look".to_owned()],
    };
    let waiting = Report::Waiting {
        why: "nobody answers".to_owned(),
    };
    let started = Report::Started {
        how: "master".to_owned(),
    };
    let line = |server: &Report, sentinel: &Report| {
        summarise([
            Some(server.clone()),
            Some(sentinel.clone()),
            Some(running.clone()),
        ])
    };
    let whole = line(&started, &started).unwrap();
    assert_eq!(
        whole.line,
        "master, master n1, epoch 4, 2 replicas, 3 of 3 Sentinels"
    );
    assert_eq!(whole.alarms, ["look"]);
    let waits = line(&waiting, &started).unwrap();
    assert_eq!(waits.line, "Redis waits: nobody answers");
    let both = line(&waiting, &waiting).unwrap();
    assert!(both.line.contains("; Sentinel waits"));
    assert_eq!(summarise([None, None, None]), None);
    assert_eq!(
        summarise([Some(started), None, None]).unwrap().line,
        "started as master"
    );
}

#[test]
fn reports_and_places_are_read_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    assert_eq!(overview(&root), None);
    assert_eq!(places(&root), Places::new());
    let places_of = Places::from([("n1".to_owned(), "10.0.0.1".to_owned())]);
    remember(&root, &places_of).unwrap();
    assert_eq!(places(&root), places_of);
    let told = Report::Waiting {
        why: "x".to_owned(),
    };
    report(&root, "server", &told).unwrap();
    assert_eq!(read_report(&root, "server"), Some(told));
}
