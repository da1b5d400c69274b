//! One CA takes the other's place: the order of the steps, what they leave on the disk, and openssl's word on the certificates.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use rolesmith_host::{
    ca::{Authorities, Authority, NODE_LIFETIME, Step, StepError, Subject, generate_key},
    identity::pins::{self, PinError},
    scan::SecretScan,
    secrets::{Secrets, SecretsError},
};

use super::{NOW, fleet, node, run, said};

const STEPS: [Step; 3] = [Step::Next, Step::Switch, Step::Retire];

fn init(dir: &Path) -> Secrets {
    Secrets::init(&dir.join("secrets"), &fleet(), "Ann <ann@example.com>", NOW).unwrap()
}

fn certificate(secrets: &Secrets) -> String {
    let identity = secrets.node(&node("app-1")).unwrap().unwrap();
    identity.certificate().pem().to_owned()
}

/// Whether openssl finds that the bundle, which has to be a file of many certificates, vouches for the certificate.
fn verifies(bundle: &str, certificate: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (ca, crt) = (dir.path().join("ca.pem"), dir.path().join("node.crt"));
    fs::write(&ca, bundle).unwrap();
    fs::write(&crt, certificate).unwrap();
    let (ca, crt) = (ca.to_str().unwrap(), crt.to_str().unwrap());
    ["sslserver", "sslclient"].into_iter().all(|purpose| {
        let time = NOW.to_string();
        let arguments = [
            "verify",
            "-x509_strict",
            "-no-CApath",
            "-CAfile",
            ca,
            "-attime",
            &time,
            "-purpose",
            purpose,
            crt,
        ];
        run("openssl", &arguments).status.success()
    })
}

#[test]
fn openssl_accepts_certificates_of_both_for_as_long_as_both_are_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    secrets
        .ensure_node(&node("app-1"), "app-1.example.com", NOW)
        .unwrap();
    let old = certificate(&secrets);
    let alone = secrets.authorities().unwrap().bundle();
    for round in 2..=3 {
        let old = certificate(&secrets);
        let both = secrets.step(Step::Next, NOW).unwrap();
        assert!(verifies(&both.bundle(), &old));
        // What is renewed meanwhile comes of the present one, whom all trust.
        secrets.renew_node(&node("app-1"), NOW).unwrap();
        let renewed = secrets.node(&node("app-1")).unwrap().unwrap();
        let issuer = both.issuer().certificate();
        assert!(renewed.certificate().is_issued_by(issuer));

        let switched = secrets.step(Step::Switch, NOW).unwrap();
        let issuer = switched.issuer().certificate();
        assert_eq!(switched.former().map(|ca| ca.key_pem()), {
            Some(both.issuer().key_pem())
        });
        assert!(!renewed.certificate().is_issued_by(issuer));
        secrets.renew_node(&node("app-1"), NOW).unwrap();
        let identity = secrets.node(&node("app-1")).unwrap().unwrap();
        assert!(identity.certificate().is_issued_by(issuer));
        assert_eq!(identity.key_pem(), renewed.key_pem(), "keys stay");
        let new = certificate(&secrets);
        for bundle in [both.bundle(), switched.bundle()] {
            assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2);
            assert!(verifies(&bundle, &old) && verifies(&bundle, &new));
        }

        let last = secrets.step(Step::Retire, NOW).unwrap();
        assert_eq!(last.bundle().matches("BEGIN CERTIFICATE").count(), 1);
        assert!(!verifies(&last.bundle(), &old) && verifies(&last.bundle(), &new));
        let path = dir.path().join("ca.pem");
        fs::write(&path, last.bundle()).unwrap();
        let subject = ["x509", "-noout", "-subject", "-in", path.to_str().unwrap()];
        let subject = said(&run("openssl", &subject));
        assert!(
            subject.contains(&format!("acme fleet CA {round}")),
            "{subject}"
        );
    }
    assert!(verifies(&alone, &old) && !verifies(&alone, &certificate(&secrets)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is asked for in whatever order: a step is made exactly when it is due, and at any time the issuer is trusted and
    /// so is whoever issued before the last step.
    #[test]
    fn a_step_is_made_when_it_is_due_and_never_else(asked in prop::collection::vec(0..3_usize, 0..12)) {
        let fleet = fleet();
        let mut authorities = Authorities::first(Authority::generate(&fleet, NOW).unwrap());
        let (mut due, mut steps) = (0, 0);
        for number in asked {
            let step = STEPS[number];
            let before = authorities.issuer().certificate().clone();
            if number != due {
                let found = authorities.check(step);
                let is = matches!(found, Err(StepError::OutOfOrder { asked, due: wanted })
                    if asked == step && wanted == STEPS[due]);
                prop_assert!(is);
                continue;
            }
            authorities = match step {
                Step::Next => authorities.next(&fleet, NOW),
                Step::Switch => authorities.switch(),
                Step::Retire => authorities.retire(),
            }.unwrap();
            (due, steps) = ((due + 1) % 3, steps + 1);
            prop_assert_eq!(authorities.steps(), steps);
            prop_assert_eq!(authorities.due(), STEPS[due]);
            let trusted: Vec<_> = authorities.all().map(Authority::certificate).collect();
            prop_assert!(trusted.contains(&&before));
            prop_assert_eq!(trusted[0], authorities.issuer().certificate());
            prop_assert_eq!(trusted.len(), if due == 0 { 1 } else { 2 });
            prop_assert!(trusted.contains(&authorities.eldest().certificate()));
        }
    }
}

/// Every file below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().to_owned(), fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn a_step_replaces_one_file_and_a_refused_one_none() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    secrets.ensure_node(&node("app-1"), "app-1", NOW).unwrap();
    let path = dir.path().join("secrets/ca.toml");
    for (due, step) in STEPS.into_iter().enumerate() {
        let before = files(dir.path());
        for other in STEPS.into_iter().filter(|other| *other != step) {
            let error = secrets.step(other, NOW).unwrap_err();
            assert!(matches!(error, SecretsError::Step(_)), "{error}");
        }
        assert_eq!(files(dir.path()), before, "step {due}");
        secrets.step(step, NOW).unwrap();
        let after = files(dir.path());
        let changed: Vec<_> = after
            .iter()
            .filter(|(path, bytes)| before.get(*path) != Some(bytes))
            .map(|(path, _)| path)
            .collect();
        assert_eq!(changed, [&path]);
        assert_eq!(before.len(), after.len());
    }
}

#[test]
fn what_an_earlier_version_made_is_taken_over_and_what_was_cut_off_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let at = |name: &str| dir.path().join("secrets").join(name);
    let first = secrets.ca().unwrap();
    let private = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(at(name), text).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    fs::remove_file(at("ca.toml")).unwrap();
    private("ca.key", &first.key_pem());
    private("ca.crt", first.certificate().pem());
    assert_eq!(secrets.ca().unwrap().certificate(), first.certificate());

    let both = secrets.step(Step::Next, NOW).unwrap();
    assert_eq!(both.issuer().certificate(), first.certificate());
    assert!(!at("ca.key").exists() && !at("ca.crt").exists());
    // Killed between the new file and the removal of the old ones, and another time in the middle of writing.
    private("ca.key", &first.key_pem());
    private("ca.crt", first.certificate().pem());
    private(".rolesmith-tmp-1-0", "steps = ");
    let read = secrets.authorities().unwrap();
    assert_eq!((read.steps(), read.due()), (1, Step::Switch));
    let switched = secrets.step(Step::Switch, NOW).unwrap();
    assert_ne!(switched.issuer().certificate(), first.certificate());
    for name in ["ca.key", "ca.crt", ".rolesmith-tmp-1-0"] {
        assert!(!at(name).exists(), "{name}");
    }

    // The keys of all are looked for in what is shipped, and errors do not quote them.
    let scan = SecretScan::new(secrets.all_values().unwrap()).unwrap();
    for authority in switched.all() {
        scan.check(authority.key_pem().as_bytes(), "x").unwrap_err();
        scan.check(authority.certificate().pem().as_bytes(), "x")
            .unwrap();
    }
    let text = fs::read_to_string(at("ca.toml")).unwrap();
    private("ca.toml", &text.replace("[former]", "[next]\n[former]"));
    let error = secrets.authorities().unwrap_err().to_string();
    assert!(
        error.contains("not the CAs") && !error.contains("PRIVATE"),
        "{error}"
    );
}

#[test]
fn steps_that_somebody_else_made_are_told_from_ones_own() {
    let (ann, bob) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hers = init(ann.path());
    let app = node("app-1");
    hers.ensure_node(&app, "app-1", NOW).unwrap();
    pins::record(ann.path(), &hers, [&app], []).unwrap();
    let lock = ann.path().join(pins::FILE);
    assert!(!fs::read_to_string(&lock).unwrap().contains("[ca]"));

    // He has a copy from before.
    for (path, bytes) in files(ann.path()) {
        let to = bob.path().join(path.strip_prefix(ann.path()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(&to, bytes).unwrap();
    }
    fs::create_dir_all(bob.path().join("secrets/fleet")).unwrap();
    for entry in walkdir::WalkDir::new(bob.path().join("secrets")) {
        use std::os::unix::fs::PermissionsExt as _;
        let entry = entry.unwrap();
        let mode = if entry.file_type().is_dir() {
            0o700
        } else {
            0o600
        };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
    }
    let his = Secrets::open(&bob.path().join("secrets")).unwrap();
    hers.step(Step::Next, NOW).unwrap();
    assert!(pins::record(ann.path(), &hers, [&app], []).unwrap());
    fs::copy(&lock, bob.path().join(pins::FILE)).unwrap();
    assert!(matches!(
        pins::check(bob.path(), &his, [&app], []),
        Err(PinError::CaOlder {
            pinned: 1,
            found: 0
        })
    ));
    // A successor of his own is not hers.
    his.step(Step::Next, NOW).unwrap();
    assert!(matches!(
        pins::record(bob.path(), &his, [&app], []),
        Err(PinError::CaOther)
    ));
    // Secrets that are ahead were cut off before the lock was written.
    hers.step(Step::Switch, NOW).unwrap();
    pins::check(ann.path(), &hers, [&app], []).unwrap();
    assert!(pins::record(ann.path(), &hers, [&app], []).unwrap());
    assert!(!pins::record(ann.path(), &hers, [&app], []).unwrap());
}

#[test]
fn a_certificate_of_another_authority_is_told_by_its_issuers_key() {
    let fleet = fleet();
    let (one, two) = (
        Authority::generate(&fleet, NOW).unwrap(),
        Authority::generate(&fleet, NOW).unwrap(),
    );
    let subject = Subject {
        fleet: &fleet,
        node: &node("app-1"),
        fqdn: "app-1",
        incarnation: 1,
    };
    let key = generate_key().unwrap();
    let issued = one.issue(&subject, &key, NOW, NODE_LIFETIME).unwrap();
    assert!(issued.is_issued_by(one.certificate()));
    assert!(!issued.is_issued_by(two.certificate()));
    assert!(!one.certificate().is_issued_by(two.certificate()));
}
