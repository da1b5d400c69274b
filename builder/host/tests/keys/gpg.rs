//! Signatures by keys that the gpg program holds, judged by gpgv and our own reader.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use rolesmith_formats::openpgp::{PublicKey, Signer as _};
use rolesmith_host::gpg::{GpgError, GpgSigner};
use tempfile::TempDir;

use super::{NOW, run, said};

/// A throw-away GnuPG home with its own agent. The agent ends when the program that it was started for does, and that is
/// a `cat` which reads from this test: also a killed test leaves nothing running.
struct Home {
    dir: TempDir,
    agent: Child,
}

impl Home {
    fn new() -> Self {
        // Short: a socket's path has at most 107 bytes.
        let dir = tempfile::Builder::new()
            .prefix("gpg-")
            .tempdir_in("/tmp")
            .unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let mut agent = Command::new("gpg-agent")
            .arg("--homedir")
            .arg(dir.path())
            .args(["--quiet", "--daemon", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("gpg-agent");
        // The agent listens before it starts the program, so an echo means that it is ready.
        agent.stdin.as_mut().unwrap().write_all(b"ready\n").unwrap();
        let mut line = String::new();
        BufReader::new(agent.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Self { dir, agent }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn gpg(&self, arguments: &[&str]) -> String {
        let home = self.path().to_str().unwrap();
        let mut all = vec![
            "--homedir",
            home,
            "--batch",
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
        ];
        all.extend(arguments);
        let output = run("gpg", &all);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes a key for `usage` that began at a time and ends at another (GnuPG's notation); its fingerprint.
    fn key(&self, user: &str, usage: &str, begin: &str, end: &str) -> String {
        self.gpg(&[
            "--faked-system-time",
            begin,
            "--quick-generate-key",
            user,
            "ed25519",
            usage,
            end,
        ]);
        self.fingerprints(user)[0].clone()
    }

    /// Fingerprints of a key and its subkeys.
    fn fingerprints(&self, user: &str) -> Vec<String> {
        self.gpg(&["--with-colons", "--list-secret-keys", user])
            .lines()
            .filter(|line| line.starts_with("fpr:"))
            .map(|line| line.split(':').nth(9).unwrap().to_owned())
            .collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let home = self.path().to_str().unwrap();
        run("gpgconf", &["--homedir", home, "--kill", "all"]);
        drop(self.agent.stdin.take());
        let _ = self.agent.wait();
    }
}

/// gpgv with the signer's public key, as apt 2.6 calls it.
fn gpgv(signer: &GpgSigner, files: &[(&str, &[u8])]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let public = PublicKey::from_armored(&signer.public_key_armored().unwrap()).unwrap();
    let ring = dir.path().join("ring.gpg");
    fs::write(&ring, public.to_bytes().unwrap()).unwrap();
    let mut arguments = vec![
        "--status-fd".to_owned(),
        "1".to_owned(),
        "--keyring".to_owned(),
        ring.display().to_string(),
    ];
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        arguments.push(path.display().to_string());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run("gpgv", &arguments);
    (output.status.success(), said(&output))
}

#[test]
fn a_signing_subkey_signs_for_its_primary_key() {
    let home = Home::new();
    let primary = home.key("Ann <ann@example.com>", "cert", "20250101T000000", "never");
    home.gpg(&[
        "--faked-system-time",
        "20250102T000000",
        "--quick-add-key",
        &primary,
        "ed25519",
        "sign",
        "never",
    ]);
    home.gpg(&[
        "--faked-system-time",
        "20250103T000000",
        "--quick-add-key",
        &primary,
        "cv25519",
        "encr",
        "never",
    ]);
    let subkey = home.fingerprints("Ann")[1].clone();
    let written = format!("{} {}", &primary[..20].to_lowercase(), &primary[20..]);
    let signer = GpgSigner::new(&written, Some(home.path())).unwrap();
    assert_eq!(signer.fingerprint(), primary);
    assert_eq!(signer.created(), 1_735_776_000);
    assert_eq!(signer.expires(), None);

    let data = b"bytes \x00\xff with\nanything\r\n";
    let signature = signer.sign_detached(data, NOW).unwrap();
    let (good, said) = gpgv(&signer, &[("sig", &signature), ("data", data)]);
    assert!(
        good && said.contains(&format!("VALIDSIG {subkey}")),
        "{said}"
    );
    let (good, _) = gpgv(&signer, &[("sig", &signature), ("data", b"other")]);
    assert!(!good);
    let signature = signer.sign_parts(&[b"a", b"b"], NOW).unwrap();
    assert!(gpgv(&signer, &[("sig", &signature), ("data", b"ab")]).0);

    let message = signer
        .clearsign("Origin: acme\n- dashed  \nlast\n", NOW)
        .unwrap();
    let (good, said) = gpgv(&signer, &[("InRelease", message.as_bytes())]);
    assert!(good && said.contains(&primary), "{said}");
    // The tenth field of VALIDSIG is the hash: 10 is SHA-512 (RFC 9580, section 9.5).
    let fields = said
        .lines()
        .find_map(|line| line.split_once("VALIDSIG "))
        .unwrap()
        .1;
    assert_eq!(fields.split(' ').nth(7), Some("10"), "{said}");
    let public = PublicKey::from_armored(&signer.public_key_armored().unwrap()).unwrap();
    assert_eq!(public.fingerprint(), primary);
    let (text, _) = public.verify_clearsigned(&message).unwrap();
    assert_eq!(text, "Origin: acme\n- dashed\nlast\n");
    // The subkey may be named itself, too.
    let named = GpgSigner::new(&subkey, Some(home.path())).unwrap();
    assert_eq!(
        (named.fingerprint(), named.created()),
        (primary, signer.created())
    );
}

#[test]
fn keys_that_cannot_sign_are_refused_before_anything_is_published() {
    let home = Home::new();
    let certifies = home.key(
        "Cert <cert@example.com>",
        "cert",
        "20250101T000000",
        "never",
    );
    assert!(matches!(
        GpgSigner::new(&certifies, Some(home.path())),
        Err(GpgError::CannotSign(key)) if key == certifies
    ));
    let expired = home.key(
        "Old <old@example.com>",
        "sign",
        "20200101T000000",
        "20210101T000000",
    );
    assert!(matches!(
        GpgSigner::new(&expired, Some(home.path())),
        Err(GpgError::CannotSign(_))
    ));
    let ending = home.key(
        "End <end@example.com>",
        "sign",
        "20250101T000000",
        "20990101T000000",
    );
    let signer = GpgSigner::new(&ending, Some(home.path())).unwrap();
    assert_eq!(signer.expires(), Some(4_070_908_800));
    let absent = "0123456789ABCDEF0123456789ABCDEF01234567";
    assert!(matches!(
        GpgSigner::new(absent, Some(home.path())),
        Err(GpgError::NoSuchKey(key)) if key == absent
    ));
    assert!(matches!(
        GpgSigner::new(&certifies[32..], Some(home.path())),
        Err(GpgError::NotAFingerprint(_))
    ));
}

#[test]
fn a_key_that_disappears_gives_gpgs_own_words() {
    let home = Home::new();
    let key = home.key(
        "Gone <gone@example.com>",
        "sign",
        "20250101T000000",
        "never",
    );
    let signer = GpgSigner::new(&key, Some(home.path())).unwrap();
    home.gpg(&["--yes", "--delete-secret-keys", &key]);
    let error = signer.sign_detached(b"x", NOW).unwrap_err();
    assert!(error.to_string().contains("gpg signs"), "{error}");
}
