//! The certificates of nodes' applications, judged by openssl: clients of the fleet, and members of it for nobody.

use std::{fs, path::Path};

use rolesmith_host::{
    ca::{BACKDATE, Certificate, DAY, NODE_LIFETIME, Step},
    secrets::{Secrets, SecretsError},
};

use super::{NOW, fleet, node, run, said};

fn init(dir: &Path) -> Secrets {
    let secrets =
        Secrets::init(&dir.join("secrets"), &fleet(), "Ann <ann@example.com>", NOW).unwrap();
    secrets
        .ensure_node(&node("app-1"), "app-1.example.com", NOW)
        .unwrap();
    secrets
}

fn ensure(secrets: &Secrets, now: u64) -> Certificate {
    let issued = secrets.ensure_application(&node("app-1"), now).unwrap();
    issued.expect("the CA is valid")
}

/// The key that follows from the node's.
fn key(secrets: &Secrets) -> String {
    let identity = secrets.node(&node("app-1")).unwrap().unwrap();
    identity.application_key().unwrap().to_pem()
}

/// `openssl verify` of app.pem in a directory, with more arguments.
fn verifies(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let (ca, app) = (dir.join("ca.pem"), dir.join("app.pem"));
    let mut all = vec!["verify", "-x509_strict", "-no-CApath", "-CAfile"];
    all.push(ca.to_str().unwrap());
    all.extend_from_slice(arguments);
    all.push(app.to_str().unwrap());
    let output = run("openssl", &all);
    (output.status.success(), said(&output))
}

#[test]
fn openssl_accepts_it_for_a_client_and_for_nothing_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let issued = ensure(&secrets, NOW);
    let ca = secrets.ca().unwrap();
    fs::write(dir.path().join("ca.pem"), ca.certificate().pem()).unwrap();
    fs::write(dir.path().join("app.pem"), issued.pem()).unwrap();
    let year = NOW + NODE_LIFETIME;
    for (time, arguments, accepted) in [
        (NOW, &["-purpose", "sslclient"][..], true),
        (NOW - BACKDATE, &["-purpose", "sslclient"], true),
        (year - 1, &["-purpose", "sslclient"], true),
        (year, &["-purpose", "sslclient"], false),
        // Whoever calls a server of the fleet is not answered by an application.
        (NOW, &["-purpose", "sslserver"], false),
        (NOW, &["-purpose", "smimesign"], false),
        // Nor is it a member, by any of the names under which members are known.
        (NOW, &["-verify_hostname", "app-1"], false),
        (NOW, &["-verify_hostname", "app-1.example.com"], false),
        (
            NOW,
            &["-verify_hostname", "application.app-1.example.com"],
            false,
        ),
    ] {
        let (found, said) = verifies(
            dir.path(),
            &[&["-attime", &time.to_string()], arguments].concat(),
        );
        assert_eq!(found, accepted, "{time} {arguments:?}: {said}");
    }
}

#[test]
fn openssl_reads_what_it_says_and_finds_it_made_for_the_derived_key() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let issued = ensure(&secrets, NOW);
    let (crt, pem) = (dir.path().join("app.pem"), dir.path().join("app.key"));
    fs::write(&crt, issued.pem()).unwrap();
    fs::write(&pem, key(&secrets)).unwrap();
    let (crt, pem) = (crt.to_str().unwrap(), pem.to_str().unwrap());
    let text = said(&run("openssl", &["x509", "-in", crt, "-noout", "-text"]));
    // Later versions of openssl leave the blanks out.
    let text = text.replace(" = ", "=");
    for expected in [
        "Issuer: CN=acme fleet CA",
        "Subject: CN=application.app-1\n",
        "Public Key Algorithm: ED25519",
        "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(expected), "{expected} not in\n{text}");
    }
    assert!(!text.contains("Alternative Name"), "{text}");
    let public = |arguments: &[&str]| said(&run("openssl", arguments));
    assert_eq!(
        public(&["x509", "-in", crt, "-noout", "-pubkey"]),
        public(&["pkey", "-in", pem, "-pubout"])
    );
    assert!(issued.dns_names().is_empty() && issued.uris().is_empty());
    assert!(issued.is_for(&key(&secrets)).unwrap());
    let identity = secrets.node(&node("app-1")).unwrap().unwrap();
    assert!(!issued.is_for(identity.key_pem()).unwrap());
}

#[test]
fn it_is_issued_once_and_goes_the_way_of_the_nodes_own() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let name = node("app-1");
    let identity = || secrets.node(&name).unwrap().unwrap();
    assert_eq!(secrets.application(&identity()).unwrap(), None);
    // A fleet that had none before: it ends with the certificate that the node has.
    let first = ensure(&secrets, NOW + 100 * DAY);
    assert_eq!(first.expires(), NOW + NODE_LIFETIME);
    assert_eq!(first.issued(), NOW + 100 * DAY - BACKDATE);
    assert_eq!(ensure(&secrets, NOW + 300 * DAY), first);
    // A clock that went back changes nothing.
    assert_eq!(ensure(&secrets, NOW), first);
    assert_eq!(
        secrets.application(&identity()).unwrap(),
        Some(first.clone())
    );

    // Renewed with the node's, for the same key.
    secrets.renew_node(&name, NOW + 250 * DAY).unwrap();
    let renewed = ensure(&secrets, NOW + 250 * DAY);
    assert_eq!(renewed.expires(), identity().certificate().expires());
    assert_eq!(renewed.key_fingerprint(), first.key_fingerprint());
    assert_eq!(ensure(&secrets, NOW + 251 * DAY), renewed);

    // Another CA issues it anew, once it issues at all.
    secrets.step(Step::Next, NOW).unwrap();
    assert_eq!(ensure(&secrets, NOW), renewed);
    let switched = secrets.step(Step::Switch, NOW).unwrap();
    secrets.renew_node(&name, NOW).unwrap();
    let of_next = ensure(&secrets, NOW);
    assert!(of_next.is_issued_by(switched.issuer().certificate()));
    assert_eq!(of_next.key_fingerprint(), first.key_fingerprint());
    secrets.step(Step::Retire, NOW).unwrap();
    assert_eq!(ensure(&secrets, NOW), of_next);

    // The machine that takes the name has another key, and no certificate before one is issued for it.
    let before = key(&secrets);
    secrets
        .replace_node(&name, "app-1.example.com", NOW)
        .unwrap();
    assert_ne!(key(&secrets), before);
    assert_eq!(secrets.application(&identity()).unwrap(), None);
    let replaced = ensure(&secrets, NOW);
    assert!(replaced.is_for(&key(&secrets)).unwrap());
    assert_ne!(replaced.key_fingerprint(), first.key_fingerprint());

    // What is damaged is made again.
    let path = dir.path().join("secrets/applications/app-1.pem");
    fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
    assert_eq!(secrets.application(&identity()).unwrap(), None);
    assert!(ensure(&secrets, NOW).is_for(&key(&secrets)).unwrap());

    assert!(matches!(
        secrets.ensure_application(&node("app-9"), NOW),
        Err(SecretsError::NoIdentity(_))
    ));
}

#[test]
fn below_a_ca_that_has_ended_the_one_stays_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = init(dir.path());
    let name = node("app-1");
    let end = secrets.ca().unwrap().certificate().expires();
    assert_eq!(secrets.ensure_application(&name, end).unwrap(), None);
    let last = secrets.renew_node(&name, end - DAY).unwrap();
    let issued = ensure(&secrets, end - DAY);
    assert_eq!(issued.expires(), last.certificate().expires());
    assert_eq!(issued.expires(), end);
    assert_eq!(ensure(&secrets, end + DAY), issued);
}
