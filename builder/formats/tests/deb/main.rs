//! Packages judged by dpkg-deb, dpkg and debsig-verify.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run real tools"
)]

mod accepted;
mod foreign;
mod refused;
mod signatures;
mod tools;

use rolesmith_formats::{
    control::{Paragraph, description},
    deb::{DebInput, Scripts},
    tarball::Entry,
};

const EPOCH: u64 = 1_700_000_000;

fn control() -> Paragraph {
    let mut control = Paragraph::new();
    for (name, value) in [
        ("Package", "acme-app"),
        ("Version", "1:2.0~rc1-3"),
        ("Architecture", "all"),
        ("Maintainer", "Ops <ops@example.org>"),
        (
            "Depends",
            "adduser, nginx-light (>= 1.22) | nginx:any, python3:any (<< 4~)",
        ),
        (
            "Description",
            &description("application", "First.\n\n  verbatim\nLast."),
        ),
    ] {
        control.push(name, value).unwrap();
    }
    control
}

fn input() -> DebInput {
    DebInput {
        control: control(),
        conffiles: vec!["/etc/acme/app.conf".to_owned()],
        removed_conffiles: vec!["/etc/acme/old.conf".to_owned()],
        scripts: Scripts {
            preinst: Some("#!/bin/sh\nset -e\n".to_owned()),
            postinst: Some("#!/bin/sh\nset -e\n# configure\n".to_owned()),
            prerm: Some("#! /bin/sh\nset -e\n# remove\n".to_owned()),
            postrm: Some("#!/bin/sh\nset -e\n# purge\n".to_owned()),
        },
        triggers: Some("# ours\nactivate-noawait ldconfig\ninterest /usr/lib/acme\n".to_owned()),
        entries: vec![
            Entry::file("/etc/acme/app.conf", "port = 1\n", 0o640),
            Entry::file("/usr/lib/acme/run", "#!/bin/sh\nexec true\n", 0o755),
            Entry::file(
                format!("/usr/share/{}/ü{}", "d".repeat(99), "x".repeat(99)),
                vec![7; 5000],
                0o644,
            ),
            Entry::symlink("/usr/lib/acme/link", format!("../{}", "y".repeat(150))),
            Entry::directory("/var/lib/acme", 0o750),
        ],
        epoch: EPOCH,
    }
}
