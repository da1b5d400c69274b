//! Signatures judged by the programs that apt uses: gpgv (Debian 12) and sqv (Debian 13).
//!
//! sqv can be named by the environment variable SQV, where the distribution does not have it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run real tools"
)]

mod gpg;
mod keys;
#[path = "../deb/tools.rs"]
mod tools;

use std::{fs, path::Path};

use rand::{SeedableRng, rngs::StdRng};
use rolesmith_formats::openpgp::{
    OpenPgpError, PublicKey, SecretKey, Signer, clearsign, sign_armored,
};
use tools::{have, have_sqv, ok, run};

const CREATED: u64 = 1_700_000_000;
const TIME: u64 = 1_700_000_100;
const TEXT: &str = "Origin: acme\n- dashes\n-----BEGIN PGP SIGNATURE-----\nFrom here\n\ttab and spaces  \t\n\nüml\n\n";
/// What is left of [`TEXT`] once its trailing white space is gone.
const SIGNED: &str =
    "Origin: acme\n- dashes\n-----BEGIN PGP SIGNATURE-----\nFrom here\n\ttab and spaces\n\nüml\n\n";

fn key(seed: u64) -> SecretKey {
    SecretKey::generate(
        "acme repository <root@example.org>",
        CREATED,
        StdRng::seed_from_u64(seed),
    )
    .unwrap()
}

fn sqv() -> String {
    std::env::var("SQV").unwrap_or_else(|_| "sqv".to_owned())
}

/// Verifies a clearsigned and a detached signature with both programs.
fn accepted_by_both(dir: &Path, key: &PublicKey, message: &str, data: &[u8], detached: &[u8]) {
    let path = |name: &str| dir.join(name).into_os_string();
    for (name, bytes) in [
        ("key.gpg", &key.to_bytes().unwrap()[..]),
        ("message", message.as_bytes()),
        ("data", data),
        ("sig", detached),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
    }
    let read_text = || {
        let text = fs::read_to_string(dir.join("out")).unwrap();
        fs::remove_file(dir.join("out")).unwrap();
        text
    };
    if have("gpgv") {
        let gpgv = |args: [std::ffi::OsString; 3]| {
            let mut all = vec![
                "--homedir".into(),
                dir.into(),
                "--keyring".into(),
                path("key.gpg"),
            ];
            all.extend(args);
            ok("gpgv", all)
        };
        gpgv(["--output".into(), path("out"), path("message")]);
        assert_eq!(read_text().trim_end(), SIGNED.trim_end());
        gpgv(["--".into(), path("sig"), path("data")]);
    }
    let sqv = sqv();
    if have_sqv(&sqv) {
        let keyring = ["--keyring".into(), path("key.gpg")];
        let clear = [
            "--cleartext".into(),
            "--output".into(),
            path("out"),
            path("message"),
        ];
        ok(&sqv, keyring.iter().chain(&clear));
        assert_eq!(read_text().trim_end(), SIGNED.trim_end());
        ok(
            &sqv,
            keyring
                .iter()
                .chain(&["--signature-file".into(), path("sig"), path("data")]),
        );
    }
}

#[test]
fn both_programs_accept_our_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(1);
    let data = b"\x00binary\r\n\xff";
    let message = key.clearsign(TEXT, TIME).unwrap();
    accepted_by_both(
        dir.path(),
        key.public_key(),
        &message,
        data,
        &key.sign_detached(data, TIME).unwrap(),
    );
    let armored = key.sign_detached_armored(data, TIME).unwrap();
    accepted_by_both(
        dir.path(),
        key.public_key(),
        &message,
        data,
        armored.as_bytes(),
    );
    assert_eq!(
        key.public_key().verify_clearsigned(&message).unwrap(),
        (SIGNED.to_owned(), TIME)
    );
}

#[test]
fn an_expiring_key_is_accepted_until_it_expires_and_does_not_sign_after() {
    let dir = tempfile::tempdir().unwrap();
    // As long as the 32 bits allow: the programs read the real clock.
    let lifetime = 0xf000_0000;
    let key =
        SecretKey::generate_expiring("acme", CREATED, Some(lifetime), StdRng::seed_from_u64(2))
            .unwrap();
    assert_eq!(key.expires(), Some(CREATED + lifetime));
    let detached = key.sign_detached(b"data", TIME).unwrap();
    accepted_by_both(
        dir.path(),
        key.public_key(),
        &key.clearsign(TEXT, TIME).unwrap(),
        b"data",
        &detached,
    );

    let short =
        SecretKey::generate_expiring("acme", CREATED, Some(100), StdRng::seed_from_u64(2)).unwrap();
    assert!(short.sign_detached(b"", CREATED + 99).is_ok());
    assert!(matches!(
        short.sign_detached(b"", CREATED + 100),
        Err(OpenPgpError::KeyExpired { .. })
    ));
    assert!(matches!(
        short.sign_detached(b"", CREATED - 1),
        Err(OpenPgpError::BeforeKey { .. })
    ));
}

#[test]
fn two_signatures_serve_clients_that_have_either_key() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (key(3), key(4));
    let signers: [&dyn Signer; 2] = [&old, &new];
    let message = clearsign(&signers, TEXT, TIME).unwrap();
    let detached = sign_armored(&signers, b"data", TIME).unwrap();
    for key in [&old, &new] {
        let public = key.public_key();
        assert_eq!(public.verify_clearsigned(&message).unwrap().0, SIGNED);
        assert_eq!(
            public
                .verify_detached(b"data", detached.as_bytes())
                .unwrap(),
            TIME
        );
        fs::write(dir.path().join("key.gpg"), public.to_bytes().unwrap()).unwrap();
        fs::write(dir.path().join("message"), &message).unwrap();
        let path = |name: &str| dir.path().join(name).into_os_string();
        if have("gpgv") {
            // gpgv exits 2 for the signature whose key it lacks; apt reads the status lines instead, as is done here.
            let args = [
                "--status-fd".into(),
                "1".into(),
                "--keyring".into(),
                path("key.gpg"),
                path("message"),
            ];
            let status = String::from_utf8(run("gpgv", args).stdout).unwrap();
            assert!(
                status.contains(&format!("VALIDSIG {}", key.fingerprint())),
                "{status}"
            );
        }
        let sqv = sqv();
        if have_sqv(&sqv) {
            let args = [
                "--keyring".into(),
                path("key.gpg"),
                "--cleartext".into(),
                path("message"),
            ];
            ok(
                &sqv,
                args.into_iter().chain(["--output".into(), path("out")]),
            );
            fs::remove_file(path("out")).unwrap();
        }
    }
    assert!(matches!(
        clearsign(&[], TEXT, TIME),
        Err(OpenPgpError::NoSigner)
    ));
}
