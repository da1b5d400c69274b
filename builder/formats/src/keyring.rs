//! The package that carries the repository's keys and its .sources file, and the paths at which a seed puts the same bytes.

use std::collections::BTreeMap;

use rolesmith_model::{
    fleet::Fleet,
    fleet_file::Upstream,
    ids::PackageName,
    plan::{Content, Maintainer, Origin, Override, Package, PackagedFile},
};

/// Where the repository's keys stand on a node.
#[must_use]
pub fn keyring_path(fleet: &Fleet) -> String {
    format!("/usr/share/keyrings/{}-archive-keyring.asc", fleet.name)
}

/// Where the repository's sources stand on a node.
#[must_use]
pub fn sources_path(fleet: &Fleet) -> String {
    format!("/etc/apt/sources.list.d/{}.sources", fleet.name)
}

/// Components of the repository, in the order in which apt reads them.
#[must_use]
pub fn components(fleet: &Fleet) -> &'static [&'static str] {
    match fleet.repository.upstream {
        Upstream::Debian => &["main"],
        Upstream::Mirror => &["main", "debian", "debian-security"],
    }
}

/// The repository in deb822 style (sources.list(5)).
#[must_use]
pub fn sources(fleet: &Fleet) -> String {
    format!(
        "# The repository of the fleet {}. The same text comes with the node's seed and with\n\
         # the package {}-archive-keyring.\n\
         Types: deb\n\
         URIs: {}\n\
         Suites: {}\n\
         Components: {}\n\
         Architectures: amd64\n\
         Signed-By: {}\n",
        fleet.name,
        fleet.name,
        fleet.repository.url,
        fleet.suite,
        components(fleet).join(" "),
        keyring_path(fleet),
    )
}

/// The policy by which debsig-verify accepts the fleet's packages, at `/etc/debsig/policies/<fingerprint>/`.
fn debsig_policy(fleet: &Fleet, fingerprint: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n\
         <!DOCTYPE Policy SYSTEM \"https://www.debian.org/debsig/1.0/policy.dtd\">\n\
         <Policy xmlns=\"https://www.debian.org/debsig/1.0/\">\n\
         \x20 <Origin Name=\"{fleet}\" id=\"{fingerprint}\" Description=\"Packages of the fleet {fleet}\"/>\n\
         \x20 <Selection>\n\
         \x20   <Required Type=\"origin\" File=\"{fleet}.pgp\" id=\"{fingerprint}\"/>\n\
         \x20 </Selection>\n\
         \x20 <Verification MinOptional=\"0\">\n\
         \x20   <Required Type=\"origin\" File=\"{fleet}.pgp\" id=\"{fingerprint}\"/>\n\
         \x20 </Verification>\n\
         </Policy>\n",
        fleet = fleet.name,
    )
}

/// A public key in the forms that the package ships.
#[derive(Debug, Clone)]
pub struct PublicKeyForms {
    /// Armored (RFC 9580 section 6).
    pub armored: String,
    /// The packets alone, as debsig-verify reads them.
    pub binary: Vec<u8>,
    /// 40 hexadecimal digits.
    pub fingerprint: String,
}

/// The keyring package.
///
/// `keys` are those that sign now, the present one first; during a rotation there are two.
///
/// # Panics
/// Never: the fleet's name makes a package name.
#[must_use]
pub fn package(fleet: &Fleet, keys: &[PublicKeyForms]) -> Package {
    let name = format!("{}-archive-keyring", fleet.name);
    let file = |path: String, bytes: Vec<u8>, conffile: bool, from: &'static str| PackagedFile {
        path,
        content: Content::File(bytes.into()),
        mode: 0o644,
        conffile,
        origin: Origin::Generated(from),
    };
    let armored: String = keys.iter().map(|k| k.armored.as_str()).collect();
    let mut files = vec![
        file(
            keyring_path(fleet),
            armored.into_bytes(),
            false,
            "the signing key",
        ),
        file(
            sources_path(fleet),
            sources(fleet).into_bytes(),
            true,
            "[repository]",
        ),
    ];
    for key in keys {
        // debsig-verify names both directories after the key's long id.
        let id = &key.fingerprint[key.fingerprint.len().saturating_sub(16)..];
        files.push(file(
            format!("/usr/share/debsig/keyrings/{id}/{}.pgp", fleet.name),
            key.binary.clone(),
            false,
            "the signing key",
        ));
        files.push(file(
            format!("/etc/debsig/policies/{id}/{}.pol", fleet.name),
            debsig_policy(fleet, id).into_bytes(),
            true,
            "the signing key",
        ));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Package {
        name: PackageName::new(name).expect("a fleet's name makes a package name"),
        section: "misc",
        summary: format!(
            "Keys and sources of the package repository of {}",
            fleet.name
        ),
        description: format!(
            "apt verifies the packages of the fleet {} with the keys in this package, and finds them through the .sources \
             file that it ships. debsig-verify finds its policy here too.",
            fleet.name
        ),
        maintainer: fleet.maintainer.clone(),
        relations: BTreeMap::new(),
        files,
        scripts: Maintainer::default(),
        lintian: vec![
            Override {
                tag: "package-installs-apt-sources".into(),
                context: None,
                reason:
                    "The purpose of the package: nodes find their fleet's repository through it."
                        .into(),
            },
            crate::facts::signature_override(),
        ],
    }
}
