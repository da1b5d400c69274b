use proptest::prelude::*;

use super::*;

#[test]
fn suffixes_name_the_algorithm() {
    assert_eq!(
        Compression::of_name("data.tar.zst"),
        Some(Compression::Zstd)
    );
    assert_eq!(Compression::of_name("Packages.gz"), Some(Compression::Gzip));
    assert_eq!(Compression::of_name("Packages.xz"), Some(Compression::Xz));
    assert_eq!(Compression::of_name("data.tar"), None);
}

#[test]
fn gzip_carries_neither_time_nor_name() {
    let bytes = Compression::Gzip.compress(b"text").unwrap();
    assert_eq!(bytes[..9], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_wrong_announced_size_does_not_pass() {
    let mut encoder = Compression::Zstd.encoder(Vec::new(), 10).unwrap();
    let written = encoder.write_all(b"four");
    assert!(written.and_then(|()| encoder.finish().map(drop)).is_err());
}

#[test]
fn cut_off_streams_are_errors() {
    for compression in Compression::ALL {
        let bytes = compression.compress(&[7; 100_000]).unwrap();
        assert!(
            compression.decompress(&bytes[..bytes.len() - 3]).is_err(),
            "{compression:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn streams_read_back_also_one_after_the_other(data in any::<Vec<u8>>(), times in 1usize..2000) {
        let data = data.repeat(times.min(1 + 200_000 / data.len().max(1)));
        for compression in Compression::ALL {
            let mut bytes = compression.compress(&data).unwrap();
            prop_assert_eq!(&compression.decompress(&bytes).unwrap(), &data);
            prop_assert_eq!(&compression.compress(&data).unwrap(), &bytes);
            bytes.extend_from_within(..);
            prop_assert_eq!(compression.decompress(&bytes).unwrap(), data.repeat(2));
        }
    }
}
