//! Readers and kills while the repository changes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rolesmith_formats::openpgp::Signer;
use rolesmith_host::publish::{Fault, generations, publish, verify};

use crate::apt::{Apt, Server, file_uri};
use crate::support::*;

/// Where the child publishes; only set by the test that starts it.
const DIRECTORY: &str = "ROLESMITH_TEST_PUBLISH_DIRECTORY";

/// Publishes two packages of the same version, so that a mixture of two generations shows.
fn publish_pair(directory: &Path, version: u64) {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let version = version.to_string();
    let packages = files([
        deb("left", &version, "all"),
        deb("right", &version, "amd64"),
        deb("stays", "1", "all"),
    ]);
    publish(&target(directory), &input(packages, &signers, now())).unwrap();
}

#[test]
#[ignore = "200 publications with readers take a minute; `make test` names it"]
fn readers_see_one_generation_or_the_other() {
    const PUBLICATIONS: u64 = 200;
    const READS: usize = 40;
    let directory = tempfile::tempdir().unwrap();
    publish_pair(directory.path(), 1);
    let root = target(directory.path()).root;
    let server = Server::start(root.clone());
    let key = key(1);
    let done = AtomicBool::new(false);
    let reads = AtomicUsize::new(0);
    let read = |apt: &Apt| {
        let before = apt.versions("left");
        apt.update().unwrap();
        let (left, right) = (apt.versions("left"), apt.versions("right"));
        assert_eq!((left.len(), &left), (1, &right));
        apt.download("left").unwrap();
        apt.download("right").unwrap();
        reads.fetch_add(1, Ordering::SeqCst);
        usize::from(before != left)
    };
    let changes = std::thread::scope(|scope| {
        let readers: Vec<_> = [server.uri(), server.uri(), file_uri(&root)]
            .into_iter()
            .map(|uri| {
                let apt = Apt::new(&uri, &[&key]);
                let (done, read) = (&done, &read);
                scope.spawn(move || {
                    let mut changes = 0;
                    while !done.load(Ordering::SeqCst) {
                        changes += read(&apt);
                    }
                    changes
                })
            })
            .collect();
        let mut version = 1;
        // A reader that failed has ended and must not be waited for.
        while !readers.iter().any(|reader| reader.is_finished())
            && (version < PUBLICATIONS || reads.load(Ordering::SeqCst) < READS)
        {
            version += 1;
            publish_pair(directory.path(), version);
        }
        done.store(true, Ordering::SeqCst);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum::<usize>()
    });
    assert!(
        changes >= READS / 2,
        "only {changes} of the reads saw a new generation"
    );
    assert_eq!(verify(&root, "fleet").unwrap().faults, Vec::<Fault>::new());
}

#[test]
#[ignore = "started by a_killed_publisher_leaves_a_whole_suite, which kills it"]
fn child_publishes_until_it_is_killed() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("not to be started by hand"));
    let last = |root: &Path| {
        generations(root, "fleet")
            .unwrap()
            .last()
            .map_or(0, |generation| generation.id)
    };
    loop {
        publish_pair(&directory, last(&target(&directory).root) + 1);
    }
}

#[test]
#[ignore = "200 kills take half a minute; `make test` names it"]
fn a_killed_publisher_leaves_a_whole_suite() {
    let seed = now();
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    publish_pair(directory.path(), 1);
    let key = key(1);
    let apt = Apt::new(&file_uri(&target.root), &[&key]);
    let mut unfinished = 0;
    for round in 0..200 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "interrupted::child_publishes_until_it_is_killed",
                "--ignored",
            ])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // "running 1 test": it has started, however busy the machine is.
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("running") {
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "{line}");
        }
        // The moment has to be a random one: no event marks the middle of a system call.
        std::thread::sleep(Duration::from_micros(rng.gen_range(2_000..60_000)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9),
            "the child failed by itself"
        );
        unfinished += usize::from(target.root.join(".rolesmith/in-progress").exists());
        let verified = verify(&target.root, "fleet").unwrap();
        assert_eq!(
            verified.faults,
            Vec::<Fault>::new(),
            "round {round}, seed {seed}"
        );
        assert_eq!(verified.packages, 3);
        if round % 20 == 0 {
            apt.update().unwrap();
            assert_eq!(apt.versions("left"), apt.versions("right"));
        }
    }
    assert!(
        unfinished >= 50,
        "only {unfinished} of 200 kills hit a publication"
    );

    // The next run takes the lock at once and leaves nothing behind.
    publish_pair(directory.path(), 1_000_000);
    assert_eq!(
        verify(&target.root, "fleet").unwrap().faults,
        Vec::<Fault>::new()
    );
    let all = tree(&target.root);
    assert!(
        !all.iter()
            .any(|path| path.contains(".rolesmith-tmp-") || path.ends_with("in-progress")),
        "{all:?}"
    );
    let kept = generations(&target.root, "fleet").unwrap();
    let records = all
        .iter()
        .filter(|path| path.starts_with(".rolesmith/generations/fleet/"))
        .count();
    assert_eq!(records, 3 * kept.len());
    assert_eq!(pool(&target.root), needed_pool(&target.root));
}
