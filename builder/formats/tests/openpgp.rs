//! Signatures judged by the programs that apt uses: gpgv (Debian 12) and sqv (Debian 13).
//!
//! sqv can be named by the environment variable SQV, where the distribution does not have it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run real tools"
)]

#[path = "deb/tools.rs"]
mod tools;

use std::{fs, path::Path};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use rolesmith_formats::openpgp::{
    OpenPgpError, PublicKey, SecretKey, Signer, clearsign, sign_armored,
};
use tools::{have, ok, run};

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
    if have(&sqv) {
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
        if have(&sqv) {
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

/// A throw-away gpg home; its agent ends with it.
struct GpgHome(tempfile::TempDir);

impl GpgHome {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn gpg(&self, args: &[&str]) -> Vec<u8> {
        let home = self.0.path().to_str().unwrap();
        let fixed = [
            "--homedir",
            home,
            "--batch",
            "--quiet",
            "--yes",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ];
        ok("gpg", fixed.iter().chain(args))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for GpgHome {
    fn drop(&mut self) {
        let _ = run(
            "gpgconf",
            [
                "--homedir",
                self.0.path().to_str().unwrap(),
                "--kill",
                "all",
            ],
        );
    }
}

#[test]
fn gpg_signs_with_our_key_and_we_verify_it() {
    if !have("gpg") {
        return;
    }
    let home = GpgHome::new();
    let key = key(5);
    fs::write(home.path("secret.asc"), key.to_armored().unwrap()).unwrap();
    home.gpg(&["--import", &home.path("secret.asc")]);
    fs::write(home.path("Release"), SIGNED).unwrap();
    let user = key.fingerprint();
    let message = home.gpg(&[
        "--local-user",
        &user,
        "--clearsign",
        "--output",
        "-",
        &home.path("Release"),
    ]);
    let message = String::from_utf8(message).unwrap();
    assert_eq!(
        key.public_key().verify_clearsigned(&message).unwrap().0,
        SIGNED
    );
    let detached = home.gpg(&[
        "--local-user",
        &user,
        "--detach-sign",
        "--output",
        "-",
        &home.path("Release"),
    ]);
    key.public_key()
        .verify_detached(SIGNED.as_bytes(), &detached)
        .unwrap();

    // The recipe that Signer::sign_text names for signers outside this crate.
    fs::write(home.path("canonical"), SIGNED.strip_suffix('\n').unwrap()).unwrap();
    let packet = home.gpg(&[
        "--local-user",
        &user,
        "--textmode",
        "--detach-sign",
        "--output",
        "-",
        &home.path("canonical"),
    ]);
    struct External(Vec<u8>, SecretKey);
    impl Signer for External {
        fn sign_detached(&self, _: &[u8], _: u64) -> Result<Vec<u8>, OpenPgpError> {
            Err(OpenPgpError::external("not asked for"))
        }
        fn sign_text(&self, _: &str, _: u64) -> Result<Vec<u8>, OpenPgpError> {
            Ok(self.0.clone())
        }
        fn public_key_armored(&self) -> Result<String, OpenPgpError> {
            self.1.public_key_armored()
        }
        fn fingerprint(&self) -> String {
            self.1.fingerprint()
        }
        fn created(&self) -> u64 {
            self.1.created()
        }
        fn expires(&self) -> Option<u64> {
            self.1.expires()
        }
    }
    let message = External(packet, key).clearsign(SIGNED, TIME).unwrap();
    assert_eq!(
        self::key(5)
            .public_key()
            .verify_clearsigned(&message)
            .unwrap()
            .0,
        SIGNED
    );
}

#[test]
fn keys_that_gpg_made_sign_here() {
    if !have("gpg") {
        return;
    }
    for (algorithm, subkey) in [
        ("ed25519", None),
        ("rsa3072", None),
        ("nistp256", None),
        ("ed25519", Some("ed25519")),
    ] {
        let home = GpgHome::new();
        let usage = if subkey.is_some() {
            "cert"
        } else {
            "sign,cert"
        };
        home.gpg(&["--quick-generate-key", "acme", algorithm, usage, "0"]);
        if let Some(subkey) = subkey {
            let listed = String::from_utf8(home.gpg(&["--with-colons", "--list-keys"])).unwrap();
            let fingerprint = listed
                .lines()
                .find(|line| line.starts_with("fpr:"))
                .unwrap()
                .split(':')
                .nth(9)
                .unwrap();
            home.gpg(&["--quick-add-key", fingerprint, subkey, "sign", "0"]);
        }
        let armored = String::from_utf8(home.gpg(&["--armor", "--export-secret-keys"])).unwrap();
        let key = SecretKey::from_armored(&armored).unwrap();
        // gpg took the real time; so must the signature, which nobody would make before its key.
        let time = key.created();
        let message = key.clearsign(TEXT, time).unwrap();
        let detached = key.sign_detached(b"data", time).unwrap();
        accepted_by_both(
            home.0.path(),
            key.public_key(),
            &message,
            b"data",
            &detached,
        );
        assert_eq!(
            key.public_key().verify_clearsigned(&message).unwrap(),
            (SIGNED.to_owned(), time)
        );
    }
}

#[test]
fn a_key_with_a_passphrase_is_refused() {
    if !have("gpg") {
        return;
    }
    let home = GpgHome::new();
    let dir = home.0.path().to_str().unwrap();
    let fixed = [
        "--homedir",
        dir,
        "--batch",
        "--quiet",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "secret",
    ];
    ok(
        "gpg",
        fixed
            .iter()
            .chain(&["--quick-generate-key", "acme", "ed25519", "sign,cert", "0"]),
    );
    let armored = ok(
        "gpg",
        fixed.iter().chain(&["--armor", "--export-secret-keys"]),
    );
    let read = SecretKey::from_armored(&String::from_utf8(armored).unwrap());
    assert!(matches!(read, Err(OpenPgpError::NoSigningKey)), "{read:?}");
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (a, b) = (
        key(6),
        SecretKey::from_armored(&key(6).to_armored().unwrap()).unwrap(),
    );
    assert_eq!(a.to_armored().unwrap(), b.to_armored().unwrap());
    assert_eq!(
        a.public_key_armored().unwrap(),
        b.public_key_armored().unwrap()
    );
    assert_eq!(
        a.clearsign(TEXT, TIME).unwrap(),
        b.clearsign(TEXT, TIME).unwrap()
    );
    assert_eq!(
        a.sign_detached(b"x", TIME).unwrap(),
        b.sign_detached(b"x", TIME).unwrap()
    );
    assert_eq!(
        a.sign_detached(b"xyz", TIME).unwrap(),
        b.sign_parts(&[b"x", b"", b"yz"], TIME).unwrap()
    );
    assert_ne!(
        a.clearsign(TEXT, TIME).unwrap(),
        b.clearsign(TEXT, TIME + 1).unwrap()
    );
    assert_ne!(a.fingerprint(), key(7).fingerprint());
    let public = PublicKey::from_armored(&a.public_key_armored().unwrap()).unwrap();
    assert_eq!(&public, a.public_key());
    assert_eq!(public.user_ids(), ["acme repository <root@example.org>"]);
    assert_eq!(
        (
            public.created(),
            public.expires(),
            public.fingerprint().len()
        ),
        (CREATED, None, 40)
    );
    assert!(
        !format!("{a:?}").contains("secret"),
        "a log must not show the key"
    );
}

#[test]
fn text_around_the_message_is_refused() {
    let key = key(8);
    let message = key.clearsign(TEXT, TIME).unwrap();
    let verify = |message: &str| key.public_key().verify_clearsigned(message);
    assert!(verify(&message).is_ok());
    for around in [
        format!("\n{message}"),
        format!("{message}\n"),
        format!("{message}x\n"),
        format!("{message}{message}"),
    ] {
        assert!(verify(&around).is_err());
    }
    assert!(matches!(
        key.clearsign("a\r\nb\n", TIME),
        Err(OpenPgpError::CarriageReturn)
    ));
    assert!(matches!(
        key.sign_detached(b"", 1 << 32),
        Err(OpenPgpError::TimeOutOfRange(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_survives_and_no_changed_one_does(text in "(-{0,6}[ -~ü\t]{0,20}\n){0,6}", at in any::<prop::sample::Index>()) {
        let key = key(9);
        let message = key.clearsign(&text, TIME).unwrap();
        let (read, _) = key.public_key().verify_clearsigned(&message).unwrap();
        let trimmed: Vec<_> = text.strip_suffix('\n').unwrap_or(&text).split('\n').map(|l| l.trim_end_matches([' ', '\t'])).collect();
        prop_assert_eq!(&read, &format!("{}\n", trimmed.join("\n")));

        let signature = key.sign_detached(text.as_bytes(), TIME).unwrap();
        let mut changed = text.clone().into_bytes();
        changed.push(b'x');
        let at = at.index(changed.len());
        changed[at] ^= 1;
        prop_assert!(key.public_key().verify_detached(&changed, &signature).is_err());
        prop_assert!(self::key(10).public_key().verify_detached(text.as_bytes(), &signature).is_err());
    }
}
