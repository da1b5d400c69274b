use proptest::prelude::*;

use super::*;

#[test]
fn members_are_padded_to_even_offsets() {
    let mut writer = Writer::new(1_700_000_000);
    writer.member("odd", b"abc").unwrap();
    writer.member("even", b"ab").unwrap();
    let bytes = writer.finish();
    assert_eq!(bytes.len(), 8 + 60 + 4 + 60 + 2);
    assert_eq!(
        &bytes[8..68],
        b"odd             1700000000  0     0     100644  3         `\n"
    );
}

#[test]
fn a_time_beyond_the_field_does_not_shift_the_header() {
    let mut writer = Writer::new(u64::MAX);
    writer.member("a", b"x").unwrap();
    let bytes = writer.finish();
    let member = read(&bytes).unwrap()[0];
    assert_eq!((member.mtime, member.data), (999_999_999_999, &b"x"[..]));
}

#[test]
fn names_and_broken_archives_are_refused() {
    for name in ["", "sixteen-letters-", "a b", "a/b", "é"] {
        assert_eq!(
            Writer::new(1).member(name, b""),
            Err(ArError::Name(name.to_owned()))
        );
    }
    assert!(read(b"").is_err());
    assert!(read(b"!<arch>\nshort").is_err());
    let mut writer = Writer::new(1);
    writer.member("a", b"0123456789").unwrap();
    let bytes = writer.finish();
    assert!(read(&bytes[..bytes.len() - 1]).is_err(), "member cut off");
}

proptest! {
    #[test]
    fn archives_read_back(members in proptest::collection::vec(("[a-z_.-]{1,15}", any::<Vec<u8>>()), 0..5), mtime in 0..1u64 << 36) {
        let mut writer = Writer::new(mtime);
        for (name, data) in &members {
            writer.member(name, data).unwrap();
        }
        let bytes = writer.finish();
        let read: Vec<_> = read(&bytes).unwrap().iter().map(|m| (m.name.to_owned(), m.data.to_vec())).collect();
        prop_assert_eq!(read, members);
    }

    #[test]
    fn the_reader_never_panics(bytes in any::<Vec<u8>>()) {
        let mut archive = MAGIC.to_vec();
        archive.extend(bytes);
        let _ = read(&archive);
    }
}
