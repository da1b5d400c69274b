use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::pem::PemObject as _;

use super::*;
use crate::net::testing::{Authority, DAY, Fleet, Wish, application, der, now, wish};

fn book(fleet: &Fleet) -> Book {
    Book::new(&fleet.facts, fleet.authority.pem.as_bytes(), &fleet.bytes()).unwrap()
}

fn judge(book: &Book, pem: &str) -> Result<(String, u64), Refusal> {
    let client = book.judge(&[der(pem)], Side::Client, now());
    assert_eq!(client, book.judge(&[der(pem)], Side::Server, now()));
    client
}

#[test]
fn members_are_let_in_and_all_others_are_told_apart() {
    let mut fleet = Fleet::new(&["n1", "n2"]);
    fleet.facts.members[1].incarnation = 2;
    let stranger = KeyPair::generate().unwrap();
    let issue = |wish: &Wish<'_>| fleet.authority.issue(wish, &fleet.keys[wish.node]);
    let second = Wish {
        incarnation: 2,
        ..wish("n2")
    };
    let book = Book::new(
        &fleet.facts,
        fleet.authority.pem.as_bytes(),
        &[("n1".to_owned(), fleet.certificates["n1"].clone().into())].into(),
    )
    .unwrap();
    let n1 = wish("n1");
    let cases: [(&str, String, &str); 10] = [
        (
            "the one in the facts",
            fleet.certificates["n1"].clone(),
            "n1",
        ),
        ("renewed with the same key", issue(&n1), "n1"),
        (
            "another key",
            fleet.authority.issue(&n1, &stranger),
            "other-key",
        ),
        (
            "expired",
            issue(&Wish {
                from: -2 * DAY,
                until: -DAY,
                ..n1
            }),
            "expired",
        ),
        (
            "from the future",
            issue(&Wish { from: DAY, ..n1 }),
            "not-yet-valid",
        ),
        (
            "a name that nobody declared",
            fleet.authority.issue(&wish("n9"), &stranger),
            "undeclared",
        ),
        (
            "another fleet's",
            issue(&Wish {
                fleet: "other",
                ..n1
            }),
            "no-identity",
        ),
        (
            "a name that begins like the fleet's",
            issue(&Wish {
                fleet: "acmex",
                ..n1
            }),
            "no-identity",
        ),
        (
            "the incarnation before",
            issue(&wish("n2")),
            "old-incarnation",
        ),
        (
            "right, but its key is not known here and its digest is another",
            issue(&second),
            "other-key",
        ),
    ];
    for (what, pem, wanted) in cases {
        match judge(&book, &pem) {
            Ok((name, number)) => assert_eq!((name.as_str(), number), (wanted, 1), "{what}"),
            Err(refusal) => assert_eq!(refusal.word(), wanted, "{what}: {refusal}"),
        }
    }
    let third = Wish {
        incarnation: 3,
        ..wish("n2")
    };
    assert_eq!(
        judge(&book, &issue(&third)).unwrap_err().word(),
        "new-incarnation"
    );
    let foreign = Authority::new().issue(&n1, &fleet.keys["n1"]);
    assert_eq!(judge(&book, &foreign).unwrap_err().word(), "foreign");
    assert_eq!(
        judge(&book, &fleet.authority.pem).unwrap_err().word(),
        "foreign",
        "the CA itself"
    );
    assert_eq!(
        book.judge(&[], Side::Client, now()).unwrap_err().word(),
        "no-identity"
    );
}

#[test]
fn a_certificate_is_good_only_for_what_it_says() {
    let mut fleet = Fleet::new(&["n1"]);
    let server = Wish {
        usages: &[ExtendedKeyUsagePurpose::ServerAuth],
        ..wish("n1")
    };
    let pem = fleet.authority.issue(&server, &fleet.keys["n1"]);
    fleet.certify("n1", pem.clone());
    let book = book(&fleet);
    assert!(book.judge(&[der(&pem)], Side::Server, now()).is_ok());
    assert_eq!(
        book.judge(&[der(&pem)], Side::Client, now())
            .unwrap_err()
            .word(),
        "foreign"
    );
}

/// A service of a node may not speak for the node, though the CA signed what it shows; nor may one whose certificate is the
/// very one that the facts name for a member.
#[test]
fn the_certificate_of_a_nodes_applications_is_no_members() {
    let mut fleet = Fleet::new(&["n1", "n2"]);
    let (_, pem) = application(&fleet, "n1");
    let word = |book: &Book, side| {
        let refusal = book.judge(&[der(&pem)], side, now()).unwrap_err();
        refusal.word()
    };
    let before = book(&fleet);
    assert_eq!(word(&before, Side::Client), "no-identity");
    assert_eq!(word(&before, Side::Server), "foreign");
    let open = before.judge_open(&[der(&pem)], Side::Client, now());
    assert_eq!(open.unwrap_err().word(), "no-identity");
    fleet.certify("n1", pem.clone());
    assert_eq!(word(&book(&fleet), Side::Client), "no-identity");
    assert_eq!(word(&book(&fleet), Side::Server), "foreign");
}

#[test]
fn a_removed_member_is_known_as_such() {
    let mut fleet = Fleet::new(&["n1", "n2"]);
    let before = book(&fleet);
    fleet.facts.members.pop();
    let after = book(&fleet).after(&before);
    let n2 = fleet.certificates["n2"].clone();
    assert!(judge(&before, &n2).is_ok());
    assert_eq!(judge(&after, &n2).unwrap_err().word(), "removed");
    // Also after further facts, until it is declared again.
    assert_eq!(
        judge(&book(&fleet).after(&after), &n2).unwrap_err().word(),
        "removed"
    );
    assert_eq!(judge(&book(&fleet), &n2).unwrap_err().word(), "undeclared");
}

#[test]
fn members_of_different_facts_understand_each_other_during_a_rotation() {
    let mut fleet = Fleet::new(&["n1"]);
    let (old, old_pem) = (book(&fleet), fleet.certificates["n1"].clone());
    let renewed = fleet.authority.issue(&wish("n1"), &fleet.keys["n1"]);
    fleet.certify("n1", renewed.clone());
    let new = book(&fleet);
    for book in [&old, &new] {
        assert!(judge(book, &old_pem).is_ok() && judge(book, &renewed).is_ok());
    }
    // The CA rolls over: first both are trusted, then certificates come from the new one, then the old one goes.
    let next = Authority::new();
    let both = format!("{}{}", fleet.authority.pem, next.pem);
    let from_next = next.issue(&wish("n1"), &fleet.keys["n1"]);
    let bundle = Book::new(&fleet.facts, both.as_bytes(), &fleet.bytes()).unwrap();
    assert!(judge(&bundle, &renewed).is_ok() && judge(&bundle, &from_next).is_ok());
    assert_eq!(judge(&new, &from_next).unwrap_err().word(), "foreign");
    fleet.certify("n1", from_next.clone());
    let only = Book::new(&fleet.facts, next.pem.as_bytes(), &fleet.bytes()).unwrap();
    assert!(judge(&only, &from_next).is_ok());
    assert_eq!(judge(&only, &renewed).unwrap_err().word(), "foreign");
}

#[test]
fn an_open_connection_outlives_its_certificate_where_the_facts_name_another_of_its_key() {
    let mut fleet = Fleet::new(&["n1", "n2"]);
    let open = |book: &Book, pem: &str, days: u64| {
        let later = std::time::Duration::from_secs(now().as_secs() + days * 86_400);
        let found = book.judge_open(&[der(pem)], Side::Client, UnixTime::since_unix_epoch(later));
        found.map_err(|refusal| refusal.word())
    };
    let shown = fleet.certificates["n1"].clone();
    assert_eq!(open(&book(&fleet), &shown, 31), Err("expired"));
    let next = Authority::new();
    let longer = Wish {
        until: 60 * DAY,
        ..wish("n1")
    };
    let renewed = next.issue(&longer, &fleet.keys["n1"]);
    fleet.certify("n1", renewed);
    let only = Book::new(&fleet.facts, next.pem.as_bytes(), &fleet.bytes()).unwrap();
    assert_eq!(open(&only, &shown, 0), Ok(("n1".to_owned(), 1)));
    assert_eq!(open(&only, &shown, 31), Ok(("n1".to_owned(), 1)));
    assert_eq!(open(&only, &shown, 61), Err("expired"));
    // Others' certificates do not help: not another member's, another machine's, or one of another key.
    assert_eq!(open(&only, &fleet.certificates["n2"], 0), Err("foreign"));
    let stranger = fleet
        .authority
        .issue(&wish("n1"), &KeyPair::generate().unwrap());
    assert_eq!(open(&only, &stranger, 0), Err("foreign"));
    fleet.facts.members[0].incarnation = 2;
    let replaced = Book::new(&fleet.facts, next.pem.as_bytes(), &fleet.bytes()).unwrap();
    assert_eq!(open(&replaced, &shown, 0), Err("old-incarnation"));
    fleet.facts.members.remove(0);
    let removed = Book::new(&fleet.facts, next.pem.as_bytes(), &fleet.bytes()).unwrap();
    assert_eq!(open(&removed, &shown, 0), Err("foreign"));
}

#[test]
fn a_certificate_that_does_not_fit_the_facts_vouches_for_no_key() {
    // A package is unpacked file by file: a certificate may be there before the facts that name it.
    let mut fleet = Fleet::new(&["n1"]);
    let stranger = KeyPair::generate().unwrap();
    let other = fleet.authority.issue(&wish("n1"), &stranger);
    fleet.certificates.insert("n1".to_owned(), other.clone());
    assert_eq!(
        judge(&book(&fleet), &other).unwrap_err().word(),
        "other-key"
    );
}

#[test]
fn an_authority_that_cannot_be_read_is_an_error() {
    let fleet = Fleet::new(&["n1"]);
    for text in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(Book::new(&fleet.facts, text.as_bytes(), &fleet.bytes()).is_err());
    }
    assert!(CertificateDer::from_pem_slice(fleet.authority.pem.as_bytes()).is_ok());
}
