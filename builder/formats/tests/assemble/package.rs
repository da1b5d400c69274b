//! A fleet and two packages of it, as values.

use std::collections::BTreeMap;

use rolesmith_formats::{
    assemble::assemble,
    compress::Compression,
    deb::{Deb, Scripts, read_deb},
};
use rolesmith_model::{
    finding::Findings,
    fleet::Fleet,
    ids::{PackageName, RoleName},
    lock::Locked,
    plan::{Maintainer, Package, PackagedUnit},
    role::Roles,
    source::{RoleDir, Sources},
    validate,
};

const FLEET: &str = r#"
[fleet]
name = "acme"
maintainer = "Operations <ops@example.org>"
domain = "example.org"

[repository]
url = "http://apt.example.org"

[network]
private = "10.77.0.0/24"
private_interface = "eth1"
public_interface = "eth0"
admin_ssh_keys = []

[nodes.node-1]
roles = ["base"]
address = "10.77.0.11"
"#;

const BASE: &str =
    "[role]\nsummary = \"base of the fleet\"\ndescription = \"What every machine has.\"\n";

fn fleet() -> Fleet {
    let mut sources = Sources::new();
    let manifest = sources.add("builtin:roles/base/role.toml", BASE.as_bytes());
    sources.roles.push(RoleDir {
        name: "base".into(),
        builtin: true,
        manifest,
        files: BTreeMap::new(),
    });
    let fleet = sources.add("fleet.toml", FLEET.as_bytes());
    sources.fleet = Some(fleet);
    let mut findings = Findings::new();
    let roles = Roles::load(&sources, &mut findings);
    let fleet = validate::fleet::load(&sources, &roles, &mut findings);
    fleet.unwrap_or_else(|| panic!("{:?}", findings.as_slice()))
}

/// A package without anything for a script to do.
pub(crate) fn nothing() -> Package {
    Package {
        name: PackageName::new("acme-test").unwrap(),
        section: "admin",
        summary: "package for a test".into(),
        description: "It ships nothing.".into(),
        maintainer: "Operations <ops@example.org>".into(),
        relations: BTreeMap::new(),
        files: Vec::new(),
        scripts: Maintainer::default(),
        lintian: Vec::new(),
    }
}

/// A role's package that uses all that there is.
pub(crate) fn everything() -> Package {
    let unit = |name: &str, enable| PackagedUnit {
        name: name.into(),
        enable,
        start: enable,
    };
    let fragment = |name: &str| vec![format!("record fragment {name}\n")];
    Package {
        scripts: Maintainer {
            role: Some(RoleName::new("test").unwrap()),
            units: vec![
                unit("rolesmith-test.service", true),
                unit("rolesmith-later.service", false),
            ],
            sysusers: true,
            tmpfiles: true,
            sysctl: true,
            preinst: fragment("preinst"),
            postinst: fragment("postinst"),
            prerm: fragment("prerm"),
            purge: fragment("purge"),
        },
        ..nothing()
    }
}

/// The package at version 7.
pub(crate) fn deb(package: &Package) -> Deb {
    let locked = Locked {
        version: 7,
        inputs: "0123456789abcdef".into(),
        epoch: 1_700_000_000,
    };
    assemble(&fleet(), package, &locked, Compression::Gzip).unwrap()
}

/// The scripts as dpkg will find them in the package.
pub(crate) fn scripts(package: &Package) -> Scripts {
    read_deb(deb(package).bytes()).unwrap().scripts
}
