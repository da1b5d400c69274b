//! Packages, keys and repositories for the tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::SeedableRng as _;
use rolesmith_formats::compress::Compression;
use rolesmith_formats::control::Paragraph;
use rolesmith_formats::deb::{Deb, DebInput, SignedDeb};
use rolesmith_formats::openpgp::{SecretKey, Signer};
use rolesmith_formats::tarball::Entry;
use rolesmith_host::publish::{
    Component, Founded, Generation, PoolFile, PublishInput, Target, generations,
};

/// 2024-01-01: keys are older than everything they sign.
pub(crate) const KEY_CREATED: u64 = 1_704_067_200;

/// The key of this number; always the same one.
pub(crate) fn key(number: u64) -> SecretKey {
    let rng = rand::rngs::StdRng::seed_from_u64(number);
    SecretKey::generate("Test <test@example.org>", KEY_CREATED, rng).unwrap()
}

/// Wall-clock time: real apt compares with it.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A package with two files.
pub(crate) fn deb(name: &str, version: &str, architecture: &str) -> SignedDeb {
    deb_with(name, version, architecture, "content\n")
}

/// A package whose file has this content.
pub(crate) fn deb_with(name: &str, version: &str, architecture: &str, content: &str) -> SignedDeb {
    deb_signed(name, version, architecture, content, &key(1))
}

/// A package that this key has signed.
pub(crate) fn deb_signed(
    name: &str,
    version: &str,
    architecture: &str,
    content: &str,
    signer: &dyn Signer,
) -> SignedDeb {
    let mut control = Paragraph::new();
    for (field, value) in [
        ("Package", name),
        ("Version", version),
        ("Architecture", architecture),
        ("Maintainer", "Test <test@example.org>"),
        ("Section", "misc"),
        ("Priority", "optional"),
        (
            "Description",
            "package of a test\nwith an extended description",
        ),
    ] {
        control.push(field, value).unwrap();
    }
    let path = format!("/usr/share/{name}");
    let input = DebInput {
        control,
        entries: vec![
            Entry::directory("/usr", 0o755),
            Entry::directory("/usr/share", 0o755),
            Entry::directory(path.clone(), 0o755),
            Entry::file(
                format!("{path}/content"),
                content.as_bytes().to_vec(),
                0o644,
            ),
            Entry::file(
                format!("{path}/version"),
                version.as_bytes().to_vec(),
                0o644,
            ),
        ],
        epoch: KEY_CREATED,
        ..DebInput::default()
    };
    Deb::build(&input, Compression::Gzip)
        .unwrap()
        .sign(signer)
        .unwrap()
}

/// Packages as the input wants them.
pub(crate) fn files(debs: impl IntoIterator<Item = SignedDeb>) -> Vec<PoolFile> {
    debs.into_iter()
        .map(|deb| PoolFile::Deb(Arc::new(deb)))
        .collect()
}

/// A suite called `fleet` with these packages in `main`, valid for a day.
pub(crate) fn input<'a>(
    packages: Vec<PoolFile>,
    signers: &'a [&'a dyn Signer],
    epoch: u64,
) -> PublishInput<'a> {
    PublishInput {
        codename: "fleet".to_owned(),
        suite: "fleet".to_owned(),
        origin: "acme".to_owned(),
        label: "acme".to_owned(),
        description: "Packages of the fleet acme".to_owned(),
        architectures: vec!["amd64".to_owned()],
        components: vec![Component {
            name: "main".to_owned(),
            packages,
        }],
        epoch,
        valid_for_seconds: 86_400,
        signers,
        also_trusted: Vec::new(),
        founded: Founded::Nothing,
    }
}

/// A repository `repo` in `directory`.
pub(crate) fn target(directory: &Path) -> Target {
    Target::new(directory.join("repo"), directory.join("index-cache"))
}

/// All files below a directory, as sorted relative paths.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::from(root)];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(
                    path.strip_prefix(root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    found.sort();
    found
}

/// The text of the only `Packages` of a generation.
pub(crate) fn packages_of(root: &Path, generation: &Generation) -> String {
    let digest = generation.indexes["main/binary-amd64/Packages.gz"].sha512;
    let packed = std::fs::read(root.join(format!(
        "dists/fleet/main/binary-amd64/by-hash/SHA512/{digest}"
    )))
    .unwrap();
    String::from_utf8(Compression::Gzip.decompress(&packed).unwrap()).unwrap()
}

/// The pool files that all kept generations name.
pub(crate) fn needed_pool(root: &Path) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    for generation in generations(root, "fleet").unwrap() {
        let text = packages_of(root, &generation);
        needed.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("Filename: "))
                .map(str::to_owned),
        );
    }
    needed
}

/// The files of the pool.
pub(crate) fn pool(root: &Path) -> BTreeSet<String> {
    tree(root)
        .into_iter()
        .filter(|path| path.starts_with("pool/"))
        .collect()
}
