//! Secrets are found in what is shipped, in whatever form, and public things are not taken for them.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use proptest::prelude::*;
use rolesmith_formats::openpgp::Signer as _;
use rolesmith_host::{
    identity::NodeIdentity,
    scan::{Form, Known, ScanError, SecretScan},
    secrets::Secrets,
};

use super::{NOW, fleet, node, run, secret};

fn wrapped(text: &str, width: usize) -> String {
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(width)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    lines.join("\n")
}

proptest! {
    #[test]
    fn a_value_is_found_wherever_it_stands(
        value in "[ -~]{16,80}",
        before in prop::collection::vec(any::<u8>(), 0..100),
        after in prop::collection::vec(any::<u8>(), 0..100),
        width in 64_usize..77,
    ) {
        let scan = SecretScan::new([Known::new("token", value.clone())]).unwrap();
        let around = [before.as_slice(), value.as_bytes(), after.as_slice()].concat();
        prop_assert_eq!(scan.check(&around, "x").unwrap_err().name, "token");
        let base64 = STANDARD.encode(&around);
        let leak = scan.check(base64.as_bytes(), "x").unwrap_err();
        prop_assert_eq!(leak.form, Form::Base64);
        prop_assert!(scan.check(URL_SAFE_NO_PAD.encode(&around).as_bytes(), "x").is_err());
        let hex: String = around.iter().map(|b| format!("{b:02x}")).collect();
        prop_assert!(scan.check(hex.as_bytes(), "x").is_err());
        prop_assert!(scan.check(hex.to_uppercase().as_bytes(), "x").is_err());
        // A value of 44 characters or more has 58 of base64, so that one side of a line break holds a whole window.
        if value.len() >= 44 {
            prop_assert!(scan.check(wrapped(&base64, width).as_bytes(), "x").is_err());
        }
    }

    #[test]
    fn other_bytes_are_let_through(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let scan = SecretScan::new([Known::new("token", "0123456789abcdef0123456789abcdef")]).unwrap();
        prop_assert_eq!(scan.check(&bytes, "x"), Ok(()));
    }
}

#[test]
fn a_fleets_keys_are_found_and_its_public_documents_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = Secrets::init(&dir.path().join("s"), &fleet(), "A <a@example.com>", NOW).unwrap();
    let first = secrets
        .ensure_node(&node("app-1"), "app-1.example.com", NOW)
        .unwrap();
    let second = secrets
        .replace_node(&node("app-1"), "app-1.example.com", NOW)
        .unwrap();
    let value = secrets.ensure_value(&secret("session-key")).unwrap();
    let application = secrets.ensure_application(&node("app-1"), NOW).unwrap();
    let derived = |identity: &NodeIdentity| identity.application_key().unwrap().to_pem();
    let scan = SecretScan::new(secrets.all_values().unwrap()).unwrap();
    let (ca, archive) = (secrets.ca().unwrap(), secrets.signer().unwrap());

    let signed = archive.clearsign("Origin: acme\n", NOW).unwrap();
    let public = archive.public_key_armored().unwrap();
    for document in [
        ca.certificate().pem(),
        first.certificate().pem(),
        second.certificate().pem(),
        application.unwrap().pem(),
        &public,
        &signed,
    ] {
        scan.check(document.as_bytes(), "public").unwrap();
        scan.check(STANDARD.encode(document).as_bytes(), "public")
            .unwrap();
    }
    scan.check(&archive.public_key().to_bytes().unwrap(), "public")
        .unwrap();

    let armored = archive.to_armored().unwrap();
    for (name, text) in [
        ("archive.pgp", armored.as_str()),
        ("ca.toml", &ca.key_pem()),
        ("nodes/app-1.1.old", first.key_pem()),
        ("nodes/app-1.toml", second.key_pem()),
        (
            "nodes/app-1.1.old (its applications' key)",
            &derived(&first),
        ),
        (
            "nodes/app-1.toml (its applications' key)",
            &derived(&second),
        ),
        ("fleet/session-key", value.expose()),
    ] {
        let body: String = text
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let indented = text.replace('\n', "\n    ");
        for (how, shipped) in [
            ("as a file", text.to_owned()),
            ("indented, as in YAML", indented),
            ("as one line of JSON", text.replace('\n', "\\n")),
            ("in base64, as in write_files", STANDARD.encode(text)),
            (
                "wrapped base64 of it",
                wrapped(&STANDARD.encode(format!("x{text}")), 76),
            ),
            ("its body in one line", body),
        ] {
            let leak = scan
                .check(format!("key: {shipped}\n").as_bytes(), "acme-app: /etc/x")
                .expect_err(how);
            assert_eq!(
                (leak.name.as_str(), leak.place.as_str()),
                (name, "acme-app: /etc/x"),
                "{how}"
            );
            let shown = format!("{leak} {leak:?}");
            assert!(!shown.contains(value.expose()), "{shown}");
        }
    }
}

/// Keys as other programs make them, which an operator may set as values.
#[test]
fn keys_made_by_openssl_are_found_by_their_secret_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let path = path.to_str().unwrap();
    for arguments in [
        vec![
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
            path,
        ],
        vec!["genpkey", "-algorithm", "ED25519", "-out", path],
        vec![
            "ecparam",
            "-name",
            "secp384r1",
            "-genkey",
            "-noout",
            "-out",
            path,
        ],
    ] {
        assert!(run("openssl", &arguments).status.success());
        let pem = std::fs::read_to_string(path).unwrap();
        let public = run("openssl", &["pkey", "-in", path, "-pubout"]).stdout;
        let der = run("openssl", &["pkey", "-in", path, "-outform", "DER"]).stdout;
        let scan = SecretScan::new([Known::new("fleet/tls-key", pem.clone())]).unwrap();
        assert!(scan.check(pem.as_bytes(), "x").is_err(), "{arguments:?}");
        assert!(scan.check(&der, "x").is_err(), "{arguments:?}");
        assert_eq!(scan.check(&public, "x"), Ok(()), "{arguments:?}");
    }
}

#[test]
fn a_value_that_chance_would_find_is_refused() {
    assert!(matches!(
        SecretScan::new([Known::new("pin", "1234")]),
        Err(ScanError::TooShort { len: 4, .. })
    ));
    let nothing = SecretScan::new([]).unwrap();
    assert_eq!(nothing.check(b"anything", "x"), Ok(()));
}
