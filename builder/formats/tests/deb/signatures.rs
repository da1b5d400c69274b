//! The origin's signature, judged by debsig-verify.

use std::{fs, path::Path, process::Output};

use rand::{SeedableRng, rngs::StdRng};
use rolesmith_formats::{
    ar,
    compress::Compression,
    deb::{Deb, Digests, ReadError, SignedDeb, read_deb},
    openpgp::{OpenPgpError, SecretKey, Signer},
};

use crate::{
    EPOCH, input,
    tools::{have, ok, run},
};

fn key(seed: u64, created: u64) -> SecretKey {
    SecretKey::generate("acme", created, StdRng::seed_from_u64(seed)).unwrap()
}

/// A policy that demands the key's signature; debsig-verify looks for both files under the long key id.
fn debsig_verify(dir: &Path, key: &SecretKey, deb: &[u8]) -> Output {
    let id = &key.fingerprint()[24..];
    let (policies, keyrings) = (dir.join("policies"), dir.join("keyrings"));
    fs::create_dir_all(policies.join(id)).unwrap();
    fs::create_dir_all(keyrings.join(id)).unwrap();
    let rule = format!("<Required Type=\"origin\" File=\"key.gpg\" id=\"{id}\"/>");
    let policy = format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE Policy SYSTEM \"https://www.debian.org/debsig/1.0/policy.dtd\">\n\
         <Policy xmlns=\"https://www.debian.org/debsig/1.0/\">\n\
         <Origin Name=\"acme\" id=\"{id}\" Description=\"acme\"/>\n\
         <Selection>{rule}</Selection>\n<Verification MinOptional=\"0\">{rule}</Verification>\n</Policy>\n"
    );
    fs::write(policies.join(id).join("acme.pol"), policy).unwrap();
    fs::write(
        keyrings.join(id).join("key.gpg"),
        key.public_key().to_bytes().unwrap(),
    )
    .unwrap();
    fs::write(dir.join("x.deb"), deb).unwrap();
    let option = |name: &str, dir: &Path| [name.into(), dir.as_os_str().to_owned()];
    let dirs = [
        option("--policies-dir", &policies),
        option("--keyrings-dir", &keyrings),
    ];
    run(
        "debsig-verify",
        dirs.into_iter()
            .flatten()
            .chain([dir.join("x.deb").into_os_string()]),
    )
}

#[test]
fn debsig_verify_accepts_the_signature_and_no_other() {
    let key = key(1, EPOCH);
    for compression in Compression::ALL {
        let signed = Deb::build(&input(), compression)
            .unwrap()
            .sign(&key)
            .unwrap();
        assert_eq!(signed.verify(key.public_key()).unwrap(), EPOCH);
        let names: Vec<_> = ar::read(signed.bytes())
            .unwrap()
            .iter()
            .map(|member| member.name)
            .collect();
        assert_eq!(names.last(), Some(&"_gpgorigin"));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.deb"), signed.bytes()).unwrap();
        if have("dpkg-deb") {
            ok(
                "dpkg-deb",
                ["--info".as_ref(), dir.path().join("x.deb").as_os_str()],
            );
        }
        if have("debsig-verify") {
            let accepted = debsig_verify(dir.path(), &key, signed.bytes());
            assert!(accepted.status.success(), "{compression:?}: {accepted:?}");
            let mut changed = signed.bytes().to_vec();
            // Within data.tar, whose last bytes stand before the signature's header.
            let end = changed
                .windows(10)
                .rposition(|window| window == b"_gpgorigin")
                .unwrap();
            changed[end - 9] ^= 1;
            assert!(!debsig_verify(dir.path(), &key, &changed).status.success());
        }
    }
}

#[test]
fn signing_is_deterministic_and_never_before_the_key() {
    let deb = || Deb::build(&input(), Compression::Zstd).unwrap();
    let signed = deb().sign(&key(1, EPOCH)).unwrap();
    assert_eq!(deb().sign(&key(1, EPOCH)).unwrap(), signed);
    assert_eq!(signed.digests(), &Digests::of(signed.bytes()));
    assert_eq!(signed.size(), signed.bytes().len() as u64);
    // A key that is younger than the sources' time signs at its own creation: still the same bytes every time.
    let young = key(2, EPOCH + 1000);
    assert_eq!(
        deb()
            .sign(&young)
            .unwrap()
            .verify(young.public_key())
            .unwrap(),
        EPOCH + 1000
    );
}

#[test]
fn signed_packages_are_taken_back_and_unsigned_ones_are_not() {
    let key = key(1, EPOCH);
    let deb = Deb::build(&input(), Compression::Xz).unwrap();
    assert!(matches!(
        SignedDeb::from_bytes(deb.bytes().to_vec()),
        Err(ReadError::NotSigned)
    ));
    let signed = deb.sign(&key).unwrap();
    assert_eq!(
        SignedDeb::from_bytes(signed.bytes().to_vec()).unwrap(),
        signed
    );
    let member = ar::read(signed.bytes()).unwrap().pop().unwrap();
    assert_eq!(
        read_deb(signed.bytes()).unwrap().signature.as_deref(),
        Some(member.data)
    );

    assert!(matches!(
        signed.verify(self::key(2, EPOCH).public_key()),
        Err(OpenPgpError::BadSignature(_))
    ));
    // Something appended after the signature is not covered by it.
    let mut archive = ar::Writer::append_to(signed.into_bytes(), EPOCH);
    archive.member("_extra", b"x").unwrap();
    let extended = SignedDeb::from_bytes(archive.finish()).unwrap();
    assert!(matches!(
        extended.verify(key.public_key()),
        Err(OpenPgpError::BadSignature(_))
    ));
}
