//! The certificate authority, judged by openssl.

use std::{fs, path::Path};

use rolesmith_host::ca::{
    Authority, BACKDATE, CaError, Certificate, DAY, NODE_LIFETIME, Subject, generate_key,
};
use rolesmith_model::ids::FleetName;

use super::{NOW, fleet, node, run, said};

fn issue(ca: &Authority, now: u64) -> (String, Certificate) {
    let (fleet, node) = (fleet(), node("app-1"));
    let subject = Subject {
        fleet: &fleet,
        node: &node,
        fqdn: "app-1.example.com",
        incarnation: 3,
    };
    let key = generate_key().unwrap();
    let certificate = ca.issue(&subject, &key, now, NODE_LIFETIME).unwrap();
    (key, certificate)
}

/// `openssl verify` at a time, for a purpose and a host name.
fn verify(dir: &Path, time: u64, purpose: &str, host: &str) -> (bool, String) {
    let output = run(
        "openssl",
        &[
            "verify",
            "-x509_strict",
            "-CAfile",
            dir.join("ca.crt").to_str().unwrap(),
            "-attime",
            &time.to_string(),
            "-purpose",
            purpose,
            "-verify_hostname",
            host,
            dir.join("node.crt").to_str().unwrap(),
        ],
    );
    (output.status.success(), said(&output))
}

#[test]
fn openssl_accepts_a_node_for_its_names_and_both_purposes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::generate(&fleet(), NOW).unwrap();
    let (_, certificate) = issue(&ca, NOW);
    fs::write(dir.path().join("ca.crt"), ca.certificate().pem()).unwrap();
    fs::write(dir.path().join("node.crt"), certificate.pem()).unwrap();
    let year = NOW + NODE_LIFETIME;
    for (time, purpose, host, accepted) in [
        (NOW, "sslserver", "app-1", true),
        (NOW, "sslclient", "app-1.example.com", true),
        (NOW - BACKDATE, "sslserver", "app-1", true),
        (year - 1, "sslserver", "app-1", true),
        (NOW - BACKDATE - 1, "sslserver", "app-1", false),
        (year, "sslserver", "app-1", false),
        (NOW, "sslserver", "app-2", false),
        (NOW, "smimesign", "app-1", false),
    ] {
        let (found, said) = verify(dir.path(), time, purpose, host);
        assert_eq!(found, accepted, "{time} {purpose} {host}: {said}");
    }
    let stranger = Authority::generate(&fleet(), NOW).unwrap();
    fs::write(dir.path().join("ca.crt"), stranger.certificate().pem()).unwrap();
    assert!(!verify(dir.path(), NOW, "sslserver", "app-1").0);
}

#[test]
fn openssl_reads_what_we_say_about_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::generate(&fleet(), NOW).unwrap();
    let (key, certificate) = issue(&ca, NOW);
    let (crt, pem) = (dir.path().join("node.crt"), dir.path().join("node.key"));
    fs::write(&crt, certificate.pem()).unwrap();
    fs::write(&pem, &key).unwrap();
    let crt = crt.to_str().unwrap();
    let text = said(&run("openssl", &["x509", "-in", crt, "-noout", "-text"]));
    for expected in [
        "Issuer: CN = acme fleet CA",
        "Subject: CN = app-1",
        "DNS:app-1, DNS:app-1.example.com, URI:rolesmith:acme/app-1/3",
        "ASN1 OID: prime256v1",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(expected), "{expected} not in\n{text}");
    }
    assert!(!text.contains("IP Address"), "{text}");
    let shown = said(&run(
        "openssl",
        &["x509", "-in", crt, "-noout", "-fingerprint", "-sha256"],
    ));
    let digits = shown.trim().rsplit('=').next().unwrap();
    assert_eq!(
        digits.replace(':', "").to_lowercase(),
        certificate.fingerprint()
    );
    let public = |arguments: &[&str]| said(&run("openssl", arguments));
    assert_eq!(
        public(&["x509", "-in", crt, "-noout", "-pubkey"]),
        public(&["pkey", "-in", pem.to_str().unwrap(), "-pubout"])
    );
    assert_eq!(certificate.dns_names(), ["app-1", "app-1.example.com"]);
    assert_eq!(certificate.uris(), ["rolesmith:acme/app-1/3"]);
    assert_eq!(certificate.issued(), NOW - BACKDATE);
    assert_eq!(certificate.expires(), NOW + NODE_LIFETIME);
    assert!(!certificate.expires_within(NOW, NODE_LIFETIME - 1));
    assert!(certificate.expires_within(NOW, NODE_LIFETIME));
}

#[test]
fn an_authority_is_taken_up_again_with_its_own_key_only() {
    let ca = Authority::generate(&fleet(), NOW).unwrap();
    let again = Authority::from_pem(&ca.key_pem(), ca.certificate().pem()).unwrap();
    assert_eq!(again.certificate(), ca.certificate());
    let other = Authority::generate(&FleetName::new("other").unwrap(), NOW).unwrap();
    assert!(matches!(
        Authority::from_pem(&other.key_pem(), ca.certificate().pem()),
        Err(CaError::KeyMismatch)
    ));
}

#[test]
fn no_certificate_outlives_the_authority() {
    let ca = Authority::generate(&fleet(), NOW).unwrap();
    let end = ca.certificate().expires();
    let (_, late) = issue(&ca, end - DAY);
    assert_eq!(late.expires(), end);
    let (fleet, node) = (fleet(), node("app-1"));
    let subject = Subject {
        fleet: &fleet,
        node: &node,
        fqdn: "app-1",
        incarnation: 1,
    };
    let key = generate_key().unwrap();
    assert!(matches!(
        ca.issue(&subject, &key, end, DAY),
        Err(CaError::AuthorityExpired(time)) if time == end
    ));
    assert!(matches!(
        Authority::generate(&fleet, u64::MAX),
        Err(CaError::TimeOutOfRange(_))
    ));
}

#[test]
fn serial_numbers_do_not_repeat_for_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::generate(&fleet(), NOW).unwrap();
    let (fleet, node, key) = (fleet(), node("app-1"), generate_key().unwrap());
    let subject = Subject {
        fleet: &fleet,
        node: &node,
        fqdn: "app-1",
        incarnation: 1,
    };
    let serial = |name: &str| {
        let path = dir.path().join(name);
        let made = ca.issue(&subject, &key, NOW, DAY).unwrap();
        fs::write(&path, made.pem()).unwrap();
        said(&run(
            "openssl",
            &["x509", "-in", path.to_str().unwrap(), "-noout", "-serial"],
        ))
    };
    assert_ne!(serial("one"), serial("two"));
}
