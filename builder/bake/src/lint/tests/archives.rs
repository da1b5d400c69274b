//! Archives, whole and damaged.

use std::io::{self, Read};

use proptest::prelude::*;

use super::{Sample, secrets};
use crate::lint::tree::{Tree, TreeError};

fn read(archive: &[u8]) -> Result<Tree, TreeError> {
    Tree::read(archive, &secrets())
}

#[test]
fn links_are_followed_as_the_kernel_does() {
    let mut sample = Sample::empty();
    sample.link("lib", "usr/lib");
    sample.file("usr/lib/a/file", "text");
    sample.link("usr/lib/b", "../lib/a");
    sample.link("etc/up", "../../../../lib/b/file");
    sample.hard_link("etc/second", "./usr/lib/a/file");
    sample.link("etc/loop", "loop");
    let tree = read(&sample.archive()).unwrap();
    let path = |path| tree.resolve(path).map(|(path, _)| path);
    assert_eq!(path("lib/b/file").as_deref(), Some("usr/lib/a/file"));
    assert_eq!(path("etc/up").as_deref(), Some("usr/lib/a/file"));
    assert_eq!(path("etc/second").as_deref(), Some("usr/lib/a/file"));
    assert_eq!(path("etc/loop"), None);
    assert_eq!(path("lib/c"), None);
}

#[test]
fn long_names_are_whole() {
    let mut sample = Sample::empty();
    let path = format!("etc/{}/{}", "d".repeat(200), "f".repeat(200));
    sample.file(&path, "text");
    let tree = read(&sample.archive()).unwrap();
    assert_eq!(tree.text(&path).as_deref(), Some("text"));
}

#[test]
fn what_leads_out_of_the_tree_is_refused() {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..9].copy_from_slice(b"./a/../..");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let archive = [header.as_bytes().as_slice(), &[0; 1024]].concat();
    let error = read(&archive).unwrap_err().to_string();
    assert!(error.contains("leads out of the tree"), "{error}");
}

#[test]
fn an_archive_that_is_cut_off_anywhere_is_refused() {
    let archive = Sample::good().archive();
    for end in (0..archive.len() - 512)
        .step_by(512)
        .chain([1, 511, 513, archive.len() - 513])
    {
        assert!(
            matches!(read(&archive[..end]), Err(TreeError::Damaged(_))),
            "the first {end} of {} bytes",
            archive.len()
        );
    }
}

/// Zeros for ever, behind a header that says they are its extended headers.
#[test]
fn headers_that_never_end_are_refused() {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_path("x").unwrap();
    header.set_size(1 << 40);
    header.set_mode(0o644);
    header.set_cksum();
    let archive = header.as_bytes().chain(io::repeat(b'7'));
    let error = Tree::read(archive, &secrets()).unwrap_err().to_string();
    assert!(error.contains("headers of an entry"), "{error}");
}

#[test]
fn an_error_of_reading_is_not_called_damage() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    assert!(matches!(
        Tree::read(Broken, &secrets()),
        Err(TreeError::Io(_))
    ));
}

proptest! {
    /// Whatever is done to the bytes: a tree or an error, and never a panic.
    #[test]
    fn damaged_archives_are_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut archive = Sample::good().archive();
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let whole = read(&archive);
        if let Ok(tree) = whole {
            let _ = super::look(&tree, &super::expected());
        }
        archive.truncate(cut.index(archive.len()));
        if let Err(error) = read(&archive) {
            prop_assert!(matches!(error, TreeError::Damaged(_)), "{error}");
        }
    }

    /// Bytes in headers, with check sums that are right again.
    #[test]
    fn headers_that_lie_are_read_or_refused(block in any::<prop::sample::Index>(), at in 0_usize..512, bytes in any::<[u8; 8]>()) {
        let mut archive = Sample::good().archive();
        let block = block.index(archive.len() / 512) * 512;
        let end = (at + 8).min(512);
        archive[block + at..block + end].copy_from_slice(&bytes[..end - at]);
        let mut header = tar::Header::from_byte_slice(&archive[block..block + 512]).clone();
        header.set_cksum();
        archive[block..block + 512].copy_from_slice(header.as_bytes());
        match read(&archive) {
            Ok(tree) => { let _ = super::look(&tree, &super::expected()); }
            Err(error) => prop_assert!(matches!(error, TreeError::Damaged(_)), "{error}"),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(read(&bytes).is_err());
    }
}
