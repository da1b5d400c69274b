//! What stands in the directory afterwards.

use std::fs;

use proptest::prelude::*;
use rolesmith_formats::compress::Compression;
use rolesmith_formats::openpgp::{SecretKey, Signer};
use rolesmith_host::publish::{
    Fault, PublishError, PublishWarning, Target, WhenBusy, generations, publish, rollback, verify,
};

use crate::support::*;

fn whole(target: &Target) -> usize {
    let verified = verify(&target.root, "fleet").unwrap();
    assert_eq!(verified.faults, Vec::<Fault>::new());
    verified.packages
}

#[test]
fn the_same_input_gives_the_same_repository() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let packages = || {
        files([
            deb("bb", "1", "all"),
            deb("aa", "1", "all"),
            deb("libcc", "2", "amd64"),
        ])
    };
    let directory = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for name in ["one", "two"] {
        let target = target(&directory.path().join(name));
        publish(&target, &input(packages(), &signers, 1_800_000_000)).unwrap();
        assert_eq!(whole(&target), 3);
        let files = tree(&target.root);
        let bytes: Vec<Vec<u8>> = files
            .iter()
            .map(|file| fs::read(target.root.join(file)).unwrap())
            .collect();
        seen.push((
            files,
            bytes
                .into_iter()
                .filter(|bytes| !bytes.starts_with(b"process "))
                .collect::<Vec<_>>(),
        ));
    }
    assert!(seen[0] == seen[1]);
    assert!(
        seen[0]
            .0
            .contains(&"pool/main/libc/libcc/libcc_2_amd64.deb".to_owned()),
        "{:?}",
        seen[0].0
    );
}

#[test]
fn old_generations_go_with_their_files() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    for number in 1..=6_u64 {
        let packages = files([
            deb("stays", "1", "all"),
            deb("changes", &number.to_string(), "all"),
        ]);
        // Farther apart than the grace time.
        let done = publish(
            &target,
            &input(packages, &signers, 1_800_000_000 + number * 1000),
        )
        .unwrap();
        assert_eq!(done.generation.id, number);
        assert_eq!(done.new_packages, if number == 1 { 2 } else { 1 });
        assert_eq!(whole(&target), 2);
    }
    let ids: Vec<u64> = generations(&target.root, "fleet")
        .unwrap()
        .iter()
        .map(|g| g.id)
        .collect();
    assert_eq!(ids, [4, 5, 6]);
    let pool: Vec<String> = pool(&target.root).into_iter().collect();
    assert_eq!(
        pool,
        [
            "pool/main/c/changes/changes_4_all.deb",
            "pool/main/c/changes/changes_5_all.deb",
            "pool/main/c/changes/changes_6_all.deb",
            "pool/main/s/stays/stays_1_all.deb",
        ]
    );
    // Three generations of Packages.gz under two digests.
    let hashed = tree(&target.root)
        .into_iter()
        .filter(|path| path.contains("/binary-amd64/by-hash/"))
        .count();
    assert_eq!(hashed, 3 * 2);
}

#[test]
fn readers_of_the_last_minutes_keep_their_generation() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    for number in 0..6_u64 {
        let packages = files([deb("changes", &number.to_string(), "all")]);
        publish(&target, &input(packages, &signers, 1_800_000_000 + number)).unwrap();
    }
    assert_eq!(generations(&target.root, "fleet").unwrap().len(), 6);
}

#[test]
fn roll_back_publishes_an_earlier_content_with_a_newer_date() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    for number in 1..=3_u64 {
        let packages = files([deb("changes", &number.to_string(), "all")]);
        publish(
            &target,
            &input(packages, &signers, 1_800_000_000 + number * 1000),
        )
        .unwrap();
    }
    let current = || {
        let plain = fs::read(
            target
                .root
                .join("dists/fleet/main/binary-amd64/Packages.gz"),
        )
        .unwrap();
        let text = packages_of(
            &target.root,
            generations(&target.root, "fleet").unwrap().last().unwrap(),
        );
        assert_eq!(
            Compression::Gzip.decompress(&plain).unwrap(),
            text.as_bytes()
        );
        text
    };
    assert!(current().contains("Version: 3\n"));
    let done = rollback(&target, "fleet", 2, 1_800_009_000, 86_400, &signers).unwrap();
    assert_eq!(
        (done.generation.id, done.generation.fields.date),
        (4, 1_800_009_000)
    );
    assert_eq!(whole(&target), 1);
    assert!(current().contains("Version: 2\n"));
    // The first generation has gone by now.
    let gone = rollback(&target, "fleet", 1, 1_800_010_000, 86_400, &signers);
    assert!(
        matches!(gone, Err(PublishError::NoGeneration { id: 1, .. })),
        "{gone:?}"
    );
}

#[test]
fn a_version_is_published_once() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let first = || deb_with("tool", "1.0", "all", "first");
    let other = || deb_with("tool", "1.0", "all", "other");
    publish(&target, &input(files([first()]), &signers, 1_800_000_000)).unwrap();
    let refused = |result| {
        assert!(
            matches!(result, Err(PublishError::SameVersionOtherBytes { .. })),
            "{result:?}"
        )
    };
    refused(publish(
        &target,
        &input(files([other()]), &signers, 1_800_001_000),
    ));
    // Also when the current generation does not have it, but a kept one does.
    publish(&target, &input(files([]), &signers, 1_800_002_000)).unwrap();
    refused(publish(
        &target,
        &input(files([other()]), &signers, 1_800_003_000),
    ));
    // And within one publication.
    refused(publish(
        &target,
        &input(
            files([
                deb_with("new", "1", "all", "a"),
                deb_with("new", "1", "all", "b"),
            ]),
            &signers,
            1_800_004_000,
        ),
    ));
    publish(
        &target,
        &input(files([first(), first()]), &signers, 1_800_005_000),
    )
    .unwrap();
    assert_eq!(whole(&target), 1);
}

#[test]
fn keys_and_dates_are_looked_at() {
    let rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(5);
    let expiring = SecretKey::generate_expiring(
        "Test <t@example.org>",
        KEY_CREATED,
        Some(1000 * 86_400),
        rng,
    )
    .unwrap();
    let signers: [&dyn Signer; 1] = [&expiring];
    let end = KEY_CREATED + 1000 * 86_400;
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let late = publish(&target, &input(files([]), &signers, end - 3600));
    assert!(
        matches!(late, Err(PublishError::KeyExpires { expires, .. }) if expires == end),
        "{late:?}"
    );
    assert!(!target.root.exists());
    let soon = publish(&target, &input(files([]), &signers, end - 20 * 86_400)).unwrap();
    assert!(
        matches!(soon.warnings[..], [PublishWarning::KeyExpiresSoon { expires, .. }] if expires == end)
    );
    let early = publish(&target, &input(files([]), &signers, end - 90 * 86_400)).unwrap();
    let (previous, now) = (end - 20 * 86_400, end - 90 * 86_400);
    // Clients would ignore an earlier date.
    assert_eq!(early.generation.fields.date, previous);
    assert_eq!(
        early.warnings[1..],
        [PublishWarning::ClockBehind { previous, now }]
    );
    let exact = Target {
        exact_date: true,
        ..target
    };
    let early = publish(&exact, &input(files([]), &signers, now)).unwrap();
    assert_eq!(early.generation.fields.date, now);
    assert_eq!(
        early.warnings,
        [PublishWarning::DateWentBack { previous, now }]
    );
}

#[test]
fn a_second_publisher_is_told() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = Target {
        when_busy: WhenBusy::Fail,
        ..target(directory.path())
    };
    publish(&target, &input(files([]), &signers, 1_800_000_000)).unwrap();
    let lock = fs::File::open(target.root.join(".rolesmith/lock")).unwrap();
    lock.lock().unwrap();
    let busy = publish(&target, &input(files([]), &signers, 1_800_000_000));
    let holder = format!("process {}", std::process::id());
    assert!(
        matches!(&busy, Err(PublishError::Busy { holder: h, .. }) if *h == holder),
        "{busy:?}"
    );
    lock.unlock().unwrap();
    publish(&target, &input(files([]), &signers, 1_800_000_000)).unwrap();
}

#[test]
fn two_suites_share_a_pool() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    for number in 1..=5_u64 {
        for codename in ["fleet", "other"] {
            let mut input = input(
                files([deb("shared", &number.to_string(), "all")]),
                &signers,
                1_800_000_000 + number * 1000,
            );
            if codename == "other" {
                // Stays with the first version, which the other suite has long forgotten.
                input.components[0].packages = files([deb("shared", "1", "all")]);
            }
            input.codename = codename.to_owned();
            publish(&target, &input).unwrap();
        }
        assert_eq!(whole(&target), 1);
        assert!(verify(&target.root, "other").unwrap().faults.is_empty());
    }
}

#[test]
fn names_stay_inside() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    for bad in ["../x", "", ".", "a/b", "a b", "a\nb"] {
        let input = PublishInputNamed(bad).of(&signers);
        let refused = publish(&target, &input);
        assert!(
            matches!(refused, Err(PublishError::BadName { .. })),
            "{bad:?}: {refused:?}"
        );
    }
}

struct PublishInputNamed(&'static str);

impl PublishInputNamed {
    fn of<'a>(&self, signers: &'a [&'a dyn Signer]) -> rolesmith_host::publish::PublishInput<'a> {
        let mut input = input(files([]), signers, 1_800_000_000);
        input.codename = self.0.to_owned();
        input
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the sequence of contents, the suite is whole, has exactly the packages asked for, and the pool has
    /// nothing that no kept generation needs.
    #[test]
    fn any_history_leaves_a_whole_suite(history in prop::collection::vec((prop::collection::btree_set(0_u8..6, 0..5), 0_u64..900), 1..7)) {
        let key = key(1);
        let signers: [&dyn Signer; 1] = [&key];
        let directory = tempfile::tempdir().unwrap();
        let target = target(directory.path());
        let mut epoch = 1_800_000_000;
        for (mut versions, pause) in history {
            epoch += pause;
            // The highest stays: a lower one alone would be refused.
            versions.insert(9);
            let packages = files(versions.iter().map(|version| deb("pp", &version.to_string(), "all")));
            publish(&target, &input(packages, &signers, epoch)).unwrap();
            prop_assert_eq!(whole(&target), versions.len());
            prop_assert_eq!(pool(&target.root), needed_pool(&target.root));
        }
    }
}
