//! The derivation, judged by openssl.
#![allow(missing_docs, reason = "a test")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run real tools"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use rolesmith_keys::{ApplicationKey, KeyError};

/// As `rolesmith init` makes them: ECDSA P-256 in PKCS #8. It is nobody's.
const NODE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQggVPFshBBIlIW9ZD7
Y+Ody8daI86WiK5+JiV0Iw3ZdgShRANCAAS2HSx9jjxKaz6PkOh68m4RW9diLQhi
Z+cPVkLiUpyUnRE2V/UQ7W+PLnLe4UQrsaFODr2frONj8Wg8s7NtNO5T
-----END PRIVATE KEY-----
";

fn openssl(arguments: &[&str], input: &str) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is there");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_key_is_the_one_that_openssl_works_out() {
    let key = ApplicationKey::of(NODE_KEY, "acme", "app-1").unwrap();
    let body: String = NODE_KEY
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(|line| format!("{line}\n"))
        .collect();
    let der = openssl(&["base64", "-d"], &body);
    let seed = openssl(
        &[
            "kdf",
            "-keylen",
            "32",
            "-kdfopt",
            "digest:SHA2-256",
            "-kdfopt",
            &format!("hexkey:{}", hex(&der)),
            "-kdfopt",
            &format!(
                "hexinfo:{}",
                hex(b"rolesmith application key 1\0acme\0app-1")
            ),
            "-binary",
            "HKDF",
        ],
        "",
    );
    let told = openssl(&["pkey", "-noout", "-text"], &key.to_pem());
    let told = String::from_utf8(told).unwrap();
    assert!(told.starts_with("ED25519 Private-Key:\n"), "{told}");
    let private: String = told
        .lines()
        .skip_while(|line| *line != "priv:")
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .flat_map(|line| line.chars().filter(char::is_ascii_hexdigit))
        .collect();
    assert_eq!(private, hex(&seed));
    // It writes the same text.
    let again = openssl(&["pkey"], &key.to_pem());
    assert_eq!(String::from_utf8(again).unwrap(), key.to_pem());
}

/// Nodes that run keep the key that their certificate is for: this value never changes.
#[test]
fn the_key_stays_what_it_is() {
    let key = ApplicationKey::of(NODE_KEY, "acme", "app-1").unwrap();
    assert_eq!(
        key.to_pem().lines().nth(1).unwrap(),
        "MC4CAQAwBQYDK2VwBCIEIDl3mIGaNuUEOPfqp4xl46rKb6f4559AtEvfSG4BdfmX"
    );
    // Blanks and line ends are no part of it.
    let rewritten = format!("of app-1\r\n{}\r\n", NODE_KEY.replace('\n', "\r\n"));
    assert_eq!(
        ApplicationKey::of(&rewritten, "acme", "app-1"),
        Ok(key.clone())
    );
    assert!(!format!("{key:?}").contains(&key.to_pem()[30..60]));
}

#[test]
fn each_node_of_each_fleet_has_a_key_of_its_own() {
    let names = [
        ("acme", "app-1"),
        ("acme", "app-2"),
        ("other", "app-1"),
        ("acmea", "pp-1"),
    ];
    let keys = names.map(|(fleet, node)| ApplicationKey::of(NODE_KEY, fleet, node).unwrap());
    for (number, key) in keys.iter().enumerate() {
        assert!(!keys[..number].contains(key), "{:?}", names[number]);
    }
    let other = openssl(
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ],
        "",
    );
    let other = String::from_utf8(other).unwrap();
    assert_ne!(
        ApplicationKey::of(&other, "acme", "app-1").as_ref(),
        Ok(&keys[0])
    );
}

#[test]
fn what_is_no_key_is_refused_and_not_quoted() {
    for text in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nsecret but no base64\n-----END PRIVATE KEY-----\n",
    ] {
        let error = ApplicationKey::of(text, "acme", "app-1").unwrap_err();
        assert_eq!(error, KeyError::NotAKey, "{text:?}");
        assert!(!error.to_string().contains("secret"));
    }
}
