//! The operator's secrets directory.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use rolesmith_formats::openpgp::Signer as _;
use rolesmith_host::secrets::{Secrets, SecretsError};
use rolesmith_model::{facts::Origin, ids::FleetName};

use super::{NOW, fleet, node, secret};

fn init(dir: &Path) -> Secrets {
    Secrets::init(&dir.join("secrets"), &fleet(), "Ann <ann@example.com>", NOW).unwrap()
}

/// Every file below a directory with its mode.
fn modes(dir: &Path) -> Vec<(String, u32)> {
    let mut found: Vec<_> = walkdir::WalkDir::new(dir)
        .into_iter()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let mode = entry.metadata().unwrap().mode() & 0o7777;
            (
                entry
                    .path()
                    .strip_prefix(dir)
                    .unwrap()
                    .display()
                    .to_string(),
                mode,
            )
        })
        .collect();
    found.sort();
    found
}

#[test]
fn init_makes_keys_that_only_their_owner_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    secrets
        .ensure_node(&node("app-1"), "app-1.example.com", NOW)
        .unwrap();
    secrets.ensure_application(&node("app-1"), NOW).unwrap();
    secrets.ensure_value(&secret("session-key")).unwrap();
    let expected = [
        ("", 0o700),
        (".gitignore", 0o600),
        ("about.toml", 0o600),
        ("applications", 0o700),
        ("applications/app-1.pem", 0o600),
        ("archive.pgp", 0o600),
        ("ca.toml", 0o600),
        ("fleet", 0o700),
        ("fleet/session-key", 0o600),
        ("nodes", 0o700),
        ("nodes/app-1.toml", 0o600),
    ];
    assert_eq!(
        modes(&dir.path().join("secrets")),
        expected.map(|(name, mode)| (name.to_owned(), mode))
    );
    let key = secrets.signer().unwrap();
    assert_eq!(
        key.public_key().user_ids(),
        ["acme repository <ann@example.com>"]
    );
    assert_eq!(key.created(), NOW);
    assert_eq!(secrets.fleet(), &fleet());
    assert!(secrets.check_fleet(&fleet()).is_ok());
    assert!(matches!(
        secrets.check_fleet(&FleetName::new("other").unwrap()),
        Err(SecretsError::OtherFleet { .. })
    ));
}

#[test]
fn init_never_overwrites_and_completes_what_was_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let path = dir.path().join("secrets");
    let (key, ca) = (secrets.signer().unwrap(), secrets.ca().unwrap());
    let again = || Secrets::init(&path, &fleet(), "Bob <bob@example.com>", NOW + 1);
    assert!(matches!(again(), Err(SecretsError::Exists(_))));
    assert_eq!(secrets.signer().unwrap().fingerprint(), key.fingerprint());
    // As if it had stopped before its last file.
    fs::remove_file(path.join("about.toml")).unwrap();
    assert!(matches!(
        Secrets::open(&path),
        Err(SecretsError::Missing(_))
    ));
    let completed = again().unwrap();
    assert_eq!(completed.signer().unwrap().fingerprint(), key.fingerprint());
    assert_eq!(completed.ca().unwrap().certificate(), ca.certificate());
}

#[test]
fn what_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    secrets.ensure_value(&secret("token")).unwrap();
    let path = dir.path().join("secrets");
    let exposed = |error: SecretsError| match error {
        SecretsError::Exposed { path, mode, .. } => (path, mode),
        other => panic!("{other}"),
    };
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let file = path.join("fleet/token");
    set(&file, 0o640);
    let error = secrets.value(&secret("token")).unwrap_err();
    assert!(error.to_string().contains("chmod 0600"), "{error}");
    assert_eq!(exposed(error), (file.clone(), 0o640));
    assert_eq!(exposed(secrets.all_values().unwrap_err()).0, file);
    set(&path.join("archive.pgp"), 0o604);
    assert_eq!(exposed(secrets.signer().unwrap_err()).1, 0o604);
    set(&path, 0o755);
    assert_eq!(exposed(Secrets::open(&path).unwrap_err()), (path, 0o755));
}

#[test]
fn a_node_keeps_its_identity_until_it_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let name = node("app-1");
    assert_eq!(secrets.node(&name).unwrap(), None);
    assert!(matches!(
        secrets.replace_node(&name, "app-1.example.com", NOW),
        Err(SecretsError::NoIdentity(_))
    ));
    let first = secrets
        .ensure_node(&name, "app-1.example.com", NOW)
        .unwrap();
    let later = secrets
        .ensure_node(&name, "app-1.example.com", NOW + 99)
        .unwrap();
    assert_eq!(first, later);
    assert_eq!(
        Secrets::open(&dir.path().join("secrets"))
            .unwrap()
            .node(&name)
            .unwrap(),
        Some(first.clone())
    );
    let document = first.document(Origin::Enroll);
    assert_eq!((document.incarnation, document.node.as_str()), (1, "app-1"));

    // Another domain or a new year: same machine, same key, another certificate.
    let moved = secrets
        .ensure_node(&name, "app-1.example.org", NOW)
        .unwrap();
    let renewed = secrets.renew_node(&name, NOW + 1_000_000).unwrap();
    for other in [&moved, &renewed] {
        assert_eq!((other.key_pem(), other.incarnation()), (first.key_pem(), 1));
        assert_ne!(other.certificate(), first.certificate());
    }
    assert_eq!(
        renewed.certificate().dns_names(),
        ["app-1", "app-1.example.org"]
    );

    let second = secrets
        .replace_node(&name, "app-1.example.org", NOW)
        .unwrap();
    assert_eq!(second.incarnation(), 2);
    assert_ne!(second.key_pem(), first.key_pem());
    assert_eq!(second.certificate().uris(), ["rolesmith:acme/app-1/2"]);
    let nodes = dir.path().join("secrets/nodes");
    assert!(
        fs::read_to_string(nodes.join("app-1.1.old"))
            .unwrap()
            .contains(renewed.certificate().pem())
    );
    // Lost the current file: the name's older machines are remembered all the same.
    fs::remove_file(nodes.join("app-1.toml")).unwrap();
    assert_eq!(
        secrets
            .ensure_node(&name, "app-1", NOW)
            .unwrap()
            .incarnation(),
        2
    );
}

#[test]
fn a_file_of_another_node_is_not_taken_for_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    secrets.ensure_node(&node("app-1"), "app-1", NOW).unwrap();
    let nodes = dir.path().join("secrets/nodes");
    fs::copy(nodes.join("app-1.toml"), nodes.join("app-2.toml")).unwrap();
    assert!(matches!(
        secrets.node(&node("app-2")),
        Err(SecretsError::Malformed { .. })
    ));
}

#[test]
fn errors_never_quote_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let identity = secrets.ensure_node(&node("app-1"), "app-1", NOW).unwrap();
    let path = dir.path().join("secrets/nodes/app-1.toml");
    let text = fs::read_to_string(&path).unwrap();
    let line = identity.key_pem().lines().nth(1).unwrap();
    // A broken line within the key, and one that is not expected.
    for broken in [
        text.replace(line, &format!("{line}\"\"\"{line}")),
        format!("{line} = 1\n{text}"),
    ] {
        fs::write(&path, broken).unwrap();
        let error = secrets.node(&node("app-1")).unwrap_err();
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains(&line[16..48]), "{shown}");
        }
    }
    assert!(!format!("{identity:?}").contains(line));
}

#[test]
fn values_are_made_once_and_can_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let name = secret("session-key");
    assert_eq!(secrets.value(&name).unwrap(), None);
    let made = secrets.ensure_value(&name).unwrap();
    assert_eq!(made.expose().len(), 64);
    assert!(
        made.expose()
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    );
    assert_eq!(secrets.ensure_value(&name).unwrap(), made);
    assert!(!format!("{made:?}").contains(made.expose()));
    secrets.set_value(&name, "from-somewhere-else").unwrap();
    assert_eq!(
        secrets.ensure_value(&name).unwrap().expose(),
        "from-somewhere-else"
    );
    assert!(matches!(
        secrets.set_value(&name, ""),
        Err(SecretsError::Empty(_))
    ));
    fs::write(dir.path().join("secrets/fleet/session-key"), "\n").unwrap();
    assert!(matches!(secrets.value(&name), Err(SecretsError::Empty(_))));
}

#[test]
fn many_at_once_make_one_identity_and_one_value() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let made: Vec<_> = std::thread::scope(|scope| {
        let one = || {
            let identity = secrets.ensure_node(&node("app-1"), "app-1", NOW).unwrap();
            let value = secrets.ensure_value(&secret("token")).unwrap();
            (identity.key_pem().to_owned(), value.expose().to_owned())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(made.iter().all(|pair| *pair == made[0]));
    // Nothing temporary stays behind.
    let left = modes(&dir.path().join("secrets"));
    assert!(
        left.iter()
            .all(|(name, _)| !name.contains(".rolesmith-tmp-")),
        "{left:?}"
    );
}
