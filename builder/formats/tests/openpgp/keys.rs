//! Determinism, canonical form and round trips, without other programs.

use proptest::prelude::*;
use rolesmith_formats::openpgp::{OpenPgpError, PublicKey, SecretKey, Signer};

use crate::{CREATED, TEXT, TIME, key};

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
        prop_assert!(crate::key(10).public_key().verify_detached(text.as_bytes(), &signature).is_err());
    }
}
