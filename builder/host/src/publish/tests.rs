use std::fs;
use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;
use rolesmith_formats::apt::{PackageEntry, Sha256, Sha512};

use super::cache::{FileKey, IndexCache};
use super::plan::{NewPoolFile, PoolSource, PublishPlan, Step, plan};
use super::*;

fn fields() -> ReleaseFields {
    ReleaseFields {
        origin: "acme".to_owned(),
        label: "acme".to_owned(),
        suite: "fleet".to_owned(),
        codename: "fleet".to_owned(),
        date: 1_800_000_000,
        valid_until: 1_800_600_000,
        architectures: vec!["amd64".to_owned()],
        components: vec!["main".to_owned()],
        description: String::new(),
        signed_by: Vec::new(),
    }
}

/// A plan for packages of these names, none of which the pool has.
fn plan_for(names: &[String]) -> PublishPlan {
    let mut entries = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        let control = format!("Package: {name}\nVersion: 1\nArchitecture: all\n");
        let sha256 = Sha256::of(name.as_bytes());
        let deb = DebDescription {
            control: control.into(),
            files: "".into(),
            size: 1,
            sha256,
        };
        let entry = PackageEntry::new(&deb, "main").unwrap();
        let source = PoolSource::Bytes(name.as_bytes().into());
        missing.push(NewPoolFile {
            path: entry.filename.clone(),
            sha256,
            source,
        });
        entries.push(entry);
    }
    let files = compress(
        Path::new("/nonexistent"),
        None,
        &index("main", &["amd64"], &entries),
    );
    let signed = rolesmith_formats::apt::SignedRepository {
        fields: fields(),
        release: "release".to_owned(),
        release_gpg: "signature".to_owned(),
        in_release: "signed".to_owned(),
        files,
    };
    plan(7, &signed, None, missing, "end\n")
}

/// The kind of a path, in the order in which kinds have to be placed.
fn rank(path: &str) -> u8 {
    match path {
        _ if path.starts_with("pool/") => 0,
        _ if path.contains("/by-hash/") => 1,
        _ if path.starts_with(".rolesmith/") => 2,
        "dists/fleet/Release" | "dists/fleet/Release.gpg" => 4,
        "dists/fleet/InRelease" => 5,
        _ => 3,
    }
}

proptest! {
    /// What a signature speaks of stands, and is durable, before the signature does.
    #[test]
    fn steps_are_in_their_order(names in prop::collection::btree_set("[a-z]{2,4}", 0..6)) {
        let names: Vec<String> = names.into_iter().collect();
        let steps = plan_for(&names).steps;
        let ranks: Vec<u8> = steps.iter().filter_map(Step::path).map(rank).collect();
        prop_assert!(ranks.is_sorted(), "{ranks:?}");
        prop_assert_eq!(ranks.last(), Some(&5));
        let barrier_before = |wanted: u8| {
            let at = steps.iter().position(|step| step.path().is_some_and(|path| rank(path) == wanted)).unwrap();
            steps[at - 1] == Step::Barrier
        };
        prop_assert!(barrier_before(3) && barrier_before(5) && steps.last() == Some(&Step::Barrier));
        // An alias speaks of a file that is placed before it.
        for (at, step) in steps.iter().enumerate() {
            if let Step::Alias { of, .. } = step {
                prop_assert!(steps[..at].iter().any(|earlier| earlier.path() == Some(of)), "{step:?}");
            }
        }
    }

    /// A cache that was cut off anywhere is no cache, rather than half of one.
    #[test]
    fn a_damaged_cache_is_empty(cut in 0_usize..400) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"deb").unwrap();
        let key = FileKey::new(&path, &fs::metadata(&path).unwrap()).unwrap();
        let deb = DebDescription { control: "Package: a\n".into(), files: "usr/ä".into(), size: 3, sha256: Sha256::of(b"deb") };
        let mut cache = IndexCache::default();
        cache.insert(key.clone(), Arc::new(deb.clone()));
        let stored = directory.path().join("cache");
        cache.store(&stored).unwrap();
        prop_assert_eq!(IndexCache::load(&stored).of_file(&key).map(|found| (**found).clone()), Some(deb));
        let bytes = fs::read(&stored).unwrap();
        let cut = cut.min(bytes.len() - 1);
        fs::write(&stored, &bytes[..cut]).unwrap();
        prop_assert!(IndexCache::load(&stored).of_file(&key).is_none());
    }
}

#[test]
fn a_replaced_file_has_another_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"one").unwrap();
    let before = fs::metadata(&path).unwrap();
    let key = FileKey::new(&path, &before).unwrap();
    assert_eq!(
        FileKey::new(&path, &fs::metadata(&path).unwrap()),
        Some(key.clone())
    );
    let other = directory.path().join("other");
    fs::write(&other, b"two").unwrap();
    fs::rename(&other, &path).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.size(), before.size());
    assert_ne!(FileKey::new(&path, &after), Some(key));
}

#[test]
fn a_record_reads_back() {
    let generation = plan_for(&["tool".to_owned()]).generation;
    assert_eq!(
        serde_json::from_slice::<Generation>(&generation.to_json()).unwrap(),
        generation
    );
    assert_eq!(generation.in_release, Sha256::of(b"signed"));
    assert!(
        generation
            .indexes
            .values()
            .any(|record| record.sha512 == Sha512::of(b"") && !record.published)
    );
}
