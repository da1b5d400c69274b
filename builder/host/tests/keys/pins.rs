//! identities.lock: two operators with secrets of their own.

use std::{fs, path::Path};

use rolesmith_host::{
    identity::pins::{self, FILE, PinError},
    secrets::{Secrets, SecretsError},
};

use super::{NOW, fleet, node, secret};

fn init(dir: &Path) -> Secrets {
    Secrets::init(&dir.join("secrets"), &fleet(), "Ann <ann@example.com>", NOW).unwrap()
}

#[test]
fn what_was_made_elsewhere_is_told_from_what_is_new() {
    let (ann, bob) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (app, token) = (node("app-1"), secret("token"));
    let hers = init(ann.path());
    hers.ensure_node(&app, "app-1.example.com", NOW).unwrap();
    let value = hers.ensure_value(&token).unwrap();
    assert!(pins::record(ann.path(), &hers, [&app], [&token]).unwrap());
    assert!(!pins::record(ann.path(), &hers, [&app], [&token]).unwrap());
    let lock = fs::read_to_string(ann.path().join(FILE)).unwrap();
    assert!(!lock.contains(value.expose()), "{lock}");

    // He has the same sources and secrets that know nothing of it.
    let his = init(bob.path());
    fs::copy(ann.path().join(FILE), bob.path().join(FILE)).unwrap();
    assert!(matches!(
        pins::check(bob.path(), &his, [&app], []),
        Err(PinError::NodeMissing { incarnation: 1, .. })
    ));
    assert!(matches!(
        pins::check(bob.path(), &his, [], [&token]),
        Err(PinError::SecretMissing { .. })
    ));
    his.ensure_node(&app, "app-1.example.com", NOW).unwrap();
    his.ensure_value(&token).unwrap();
    assert!(matches!(
        pins::record(bob.path(), &his, [&app], []),
        Err(PinError::NodeOther { .. })
    ));
    assert!(matches!(
        pins::record(bob.path(), &his, [], [&token]),
        Err(PinError::SecretOther { .. })
    ));
    assert_eq!(lock, fs::read_to_string(bob.path().join(FILE)).unwrap());
    // A value that an operator chose is nobody's random one.
    his.set_value(&token, "chosen-by-bob").unwrap();
    assert!(pins::record(bob.path(), &his, [], [&token]).unwrap());
}

#[test]
fn renewal_is_the_same_key_and_a_replacement_has_to_descend_from_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let app = node("app-1");
    let secrets = init(dir.path());
    secrets.ensure_node(&app, "app-1", NOW).unwrap();
    pins::record(dir.path(), &secrets, [&app], []).unwrap();
    secrets.renew_node(&app, NOW + 1_000_000).unwrap();
    assert!(!pins::record(dir.path(), &secrets, [&app], []).unwrap());

    // Cut off between the secrets and the lock.
    let old = fs::read(dir.path().join("secrets/nodes/app-1.toml")).unwrap();
    secrets.replace_node(&app, "app-1", NOW).unwrap();
    pins::check(dir.path(), &secrets, [&app], []).unwrap();
    assert!(pins::record(dir.path(), &secrets, [&app], []).unwrap());
    // An older copy of the secrets.
    fs::write(dir.path().join("secrets/nodes/app-1.toml"), old).unwrap();
    assert!(matches!(
        pins::check(dir.path(), &secrets, [&app], []),
        Err(PinError::NodeOlder {
            pinned: 2,
            found: 1,
            ..
        })
    ));
}

#[test]
fn a_next_identity_is_nothing_until_it_is_installed() {
    let dir = tempfile::tempdir().unwrap();
    let app = node("app-1");
    let secrets = init(dir.path());
    let first = secrets.ensure_node(&app, "app-1", NOW).unwrap();
    let next = secrets.next_node(&app, "app-1", NOW).unwrap();
    assert_eq!(secrets.node(&app).unwrap(), Some(first));
    let other = secrets.next_node(&app, "app-1", NOW).unwrap();
    secrets.install_node(&next).unwrap();
    assert_eq!(secrets.node(&app).unwrap(), Some(next));
    assert!(matches!(
        secrets.install_node(&other),
        Err(SecretsError::Raced(_))
    ));
}

#[test]
fn values_that_a_configuration_file_would_misread_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let token = secret("token");
    for bad in [
        "two words",
        "it's",
        "a\"b",
        "a\\b",
        "a;b",
        "a#b",
        "a\nb",
        "a\r",
        "a\tb",
        "\u{7f}",
        "grün",
    ] {
        let Err(error) = secrets.set_value(&token, bad) else {
            panic!("{bad:?} was taken");
        };
        let text = error.to_string();
        assert!(
            matches!(error, SecretsError::Unfit { .. }) && text.contains("fleet/token"),
            "{text}"
        );
    }
    let path = dir.path().join("secrets/fleet/token");
    secrets
        .set_value(&token, "A-z_0.9:/+=@%$&*!?,<>|~^`()[]{}")
        .unwrap();
    fs::write(&path, "windows\r\n").unwrap();
    assert!(matches!(
        secrets.value(&token),
        Err(SecretsError::Unfit { .. })
    ));
}

#[test]
fn a_certificate_is_due_in_its_last_third() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let identity = secrets.ensure_node(&node("app-1"), "app-1", NOW).unwrap();
    let certificate = identity.certificate();
    let lifetime = certificate.expires() - certificate.issued();
    let due = certificate.expires() - lifetime / 3;
    assert!(!certificate.renewal_due(due - 1));
    assert!(certificate.renewal_due(due) && certificate.renewal_due(certificate.expires() + 1));
}
