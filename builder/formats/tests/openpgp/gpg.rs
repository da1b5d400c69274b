//! Keys and signatures exchanged with the gpg program.

use std::fs;

use rolesmith_formats::openpgp::{OpenPgpError, SecretKey, Signer};

use crate::{
    SIGNED, TEXT, TIME, accepted_by_both, key,
    tools::{have, ok, run},
};

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

    fn gpg_with_input(&self, args: &[&str], input: &str) {
        fs::write(self.path("input"), input).unwrap();
        let script = "home=$1; shift; exec gpg --homedir \"$home\" --batch --quiet --yes \"$@\" <\"$home/input\"";
        let home = self.0.path().to_str().unwrap();
        ok("sh", ["-c", script, "sh", home].iter().chain(args));
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
        crate::key(5)
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
fn a_revoked_key_is_refused_and_a_revoked_subkey_is_passed_over() {
    if !have("gpg") {
        return;
    }
    let home = GpgHome::new();
    home.gpg(&["--quick-generate-key", "acme", "ed25519", "sign,cert", "0"]);
    let listed = String::from_utf8(home.gpg(&["--with-colons", "--list-keys"])).unwrap();
    let fingerprint = listed
        .lines()
        .find(|line| line.starts_with("fpr:"))
        .unwrap();
    let fingerprint = fingerprint.split(':').nth(9).unwrap();
    home.gpg(&["--quick-add-key", fingerprint, "ed25519", "sign", "0"]);
    let export = || String::from_utf8(home.gpg(&["--armor", "--export-secret-keys"])).unwrap();
    let by_subkey = SecretKey::from_armored(&export()).unwrap();

    let commands = ["--no-tty", "--command-fd", "0", "--edit-key", fingerprint];
    home.gpg_with_input(&commands, "key 1\nrevkey\ny\n0\n\ny\nsave\n");
    let by_primary = SecretKey::from_armored(&export()).unwrap();
    let time = by_primary.created().max(by_subkey.created());
    assert_ne!(
        by_primary.sign_detached(b"x", time).unwrap(),
        by_subkey.sign_detached(b"x", time).unwrap()
    );

    let certificate = home.path(&format!("openpgp-revocs.d/{fingerprint}.rev"));
    // gpg puts a colon before the armor, lest somebody imports it by accident.
    let armor = fs::read_to_string(&certificate)
        .unwrap()
        .replace(":-----BEGIN", "-----BEGIN");
    fs::write(&certificate, armor).unwrap();
    home.gpg(&["--import", &certificate]);
    assert!(matches!(
        SecretKey::from_armored(&export()),
        Err(OpenPgpError::NoSigningKey)
    ));
}
