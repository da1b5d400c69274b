//! Checks image.toml files and makes [`Image`]s of them.

use std::{collections::BTreeSet, ops::Range, str::FromStr};

use toml::Spanned;

use super::{
    syntax,
    toml_error::{self, Document},
};
use crate::{
    applications::{SERVICE_PREFIX, SITE_PREFIX},
    archive_names::{ArchiveNames, closest},
    finding::{Findings, Place},
    fleet::{Certificates, Fleet, Mail},
    fleet_file::Upstream,
    ids::{ImageName, PackageName, RoleName, Suite},
    image::Image,
    image_file::{Firmware, Format, ImageFile},
    role::Roles,
    source::{ImageDir, SourceId, Sources},
};

/// Kernels that Debian has for amd64.
const KERNELS: [&str; 3] = [
    "linux-image-cloud-amd64",
    "linux-image-amd64",
    "linux-image-rt-amd64",
];

/// Data sources of cloud-init that a seed of this program or a provider of virtual machines can come by.
const DATA_SOURCES: [&str; 9] = [
    "ConfigDrive",
    "NoCloud",
    "DigitalOcean",
    "Hetzner",
    "Vultr",
    "OpenStack",
    "Ec2",
    "GCE",
    "None",
];

/// The least disk in MiB: Debian without roles takes half of it.
const LEAST_MIB: u64 = 1200;

/// The largest that DigitalOcean takes, in MiB.
const LARGEST_MIB: u64 = 100 * 1024;

const MIB: u64 = 1024 * 1024;

/// Reads and checks every image. Those of the fleet take the place of built-in ones with the same name.
#[must_use]
pub fn load(
    sources: &Sources,
    roles: &Roles,
    fleet: &Fleet,
    archive: &ArchiveNames<'_>,
    findings: &mut Findings,
) -> Vec<Image> {
    let mut images: Vec<Image> = Vec::new();
    for dir in &sources.images {
        let mut check = Check {
            dir,
            roles,
            fleet,
            archive,
            findings,
        };
        if let Some(image) = check.load(sources.get(dir.manifest).text()) {
            images.retain(|other| other.name != image.name);
            images.push(image);
        }
    }
    images.sort_by(|a, b| a.name.cmp(&b.name));
    images
}

struct Check<'a> {
    dir: &'a ImageDir,
    roles: &'a Roles,
    fleet: &'a Fleet,
    archive: &'a ArchiveNames<'a>,
    findings: &'a mut Findings,
}

impl Check<'_> {
    fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: String,
        why: &str,
        help: impl Into<String>,
    ) {
        let place = Place::new(self.source(), span);
        self.findings.error(code, place, message, why, help);
    }

    fn source(&self) -> SourceId {
        self.dir.manifest
    }

    fn load(&mut self, text: Option<&str>) -> Option<Image> {
        let Some(text) = text else {
            self.error(
                "image::not-utf8",
                0..0,
                "image.toml is not UTF-8".into(),
                "TOML files are UTF-8 by definition",
                "convert it, for example with iconv(1)",
            );
            return None;
        };
        let name = match ImageName::new(self.dir.name.as_str()) {
            Ok(name) => name,
            Err(why) => {
                self.error(
                    "image::name",
                    0..0,
                    format!("the image's directory {:?} {why}", self.dir.name),
                    "an image and its files are named after its directory",
                    "rename the directory",
                );
                return None;
            }
        };
        match toml::from_str::<ImageFile>(text) {
            Ok(file) => self.image(name, &file),
            Err(error) => {
                let document = Document {
                    id: self.source(),
                    text,
                    name: "image.toml",
                    docs: "docs/images.md",
                };
                toml_error::report(document, &error, self.findings);
                None
            }
        }
    }

    fn image(&mut self, name: ImageName, file: &ImageFile) -> Option<Image> {
        let head = &file.image;
        if head.summary.get_ref().trim().is_empty() || head.summary.get_ref().contains('\n') {
            self.error(
                "image::summary",
                head.summary.span(),
                "the summary is not one line of text".into(),
                "shown where images are listed",
                "write in a few words what the image is for",
            );
        }
        let suite = self.suite(head.suite.as_ref(), !head.roles.is_empty());
        let roles = self.closure(&head.roles);
        let unbuilt = self.unbuilt(&roles, &head.roles);
        let packages = self.packages(&head.packages);
        let kernel = self.kernel(head.kernel.as_ref());
        self.locales(&head.locales);
        let size = self.size(file.disk.size.as_ref(), head.roles.is_empty());
        let formats = self.formats(file.disk.formats.as_deref());
        let firmware = self.firmware(file.boot.firmware.as_ref());
        let consoles = self.consoles(file.boot.consoles.as_deref());
        let data_sources = self.data_sources(file.cloud_init.data_sources.as_deref());
        let layers = || {
            let found = roles.iter().filter_map(|r| self.roles.get(r.as_str()));
            found.flat_map(|role| &role.layers)
        };
        let sorted = |all: BTreeSet<String>| all.into_iter().collect();
        let masked = layers().flat_map(|l| l.file.masked_units.iter().map(|u| u.get_ref().clone()));
        let answers = layers().flat_map(|l| l.file.debconf.iter().map(|a| a.get_ref().clone()));
        Some(Image {
            name,
            source: self.source(),
            builtin: self.dir.builtin,
            summary: head.summary.get_ref().trim().to_owned(),
            suite: suite?,
            fleet_packages: roles
                .iter()
                .filter_map(|role| PackageName::new(self.fleet.package_of(role)).ok())
                .collect(),
            masked_units: sorted(masked.collect()),
            debconf: sorted(answers.collect()),
            roles,
            unbuilt,
            packages,
            kernel,
            locales: head.locales.iter().map(|l| l.get_ref().clone()).collect(),
            size,
            formats,
            compression: file.disk.compression,
            firmware,
            consoles,
            data_sources,
        })
    }

    fn suite(&mut self, suite: Option<&Spanned<String>>, with_roles: bool) -> Option<Suite> {
        let own = self.fleet.suite;
        let Some(written) = suite else {
            return Some(own);
        };
        let suite = match Suite::from_str(written.get_ref()) {
            Ok(suite) => suite,
            Err(why) => {
                self.error(
                    "image::suite",
                    written.span(),
                    why,
                    "the image's Debian release",
                    "write \"trixie\" (Debian 13) or \"bookworm\" (Debian 12), or leave it out for the fleet's",
                );
                return None;
            }
        };
        let why = if with_roles {
            "the fleet's packages are made for its own release"
        } else {
            "the fleet's repository holds the packages of its own release alone (upstream = \"mirror\")"
        };
        if suite != own && (with_roles || self.fleet.repository.upstream == Upstream::Mirror) {
            self.error(
                "image::other-suite",
                written.span(),
                format!("the image is of Debian {suite}, the fleet of {own}"),
                why,
                "leave `suite` out",
            );
        }
        Some(suite)
    }

    /// The roles with those they require, and those that are made of services and sites.
    fn closure(&mut self, written: &[Spanned<String>]) -> Vec<RoleName> {
        let mut names = Vec::new();
        for role in written {
            let name = role.get_ref().as_str();
            match self.roles.get(name) {
                Some(known) => names.push(known.name.clone()),
                None if self.roles.is_broken(name) => {}
                None => {
                    let help = self.roles.similar(name).map_or_else(
                        || format!("known roles are {}", self.roles.names().join(", ")),
                        |near| format!("did you mean {near:?}?"),
                    );
                    self.error(
                        "image::unknown-role",
                        role.span(),
                        format!("there is no role {name:?}"),
                        "neither built in nor a directory in roles/",
                        help,
                    );
                }
            }
        }
        if names.is_empty() {
            return names;
        }
        let closure = self.roles.closure(names.iter());
        let has = |role: &str| closure.iter().any(|name| name.as_str() == role);
        let made = self.roles.iter().map(|role| &role.name).filter(|name| {
            name.as_str().starts_with(SERVICE_PREFIX) && has("app")
                || name.as_str().starts_with(SITE_PREFIX) && has("edge")
        });
        let mut made: Vec<RoleName> = made.cloned().collect();
        // What fleet.toml gives to nodes without their asking: [certificates] to edges, [mail] to all.
        let given = [
            (
                Certificates::ROLE,
                self.fleet.certificates.is_some() && has("edge"),
            ),
            (Mail::ROLE, self.fleet.mail.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is)| *is);
        made.extend(given.filter_map(|(role, _)| RoleName::new(role).ok()));
        self.roles.closure(names.iter().chain(&made))
    }

    /// Roles that no node has. One of the fleet's own images is made for its nodes; the built-in ones fit some fleets.
    fn unbuilt(&mut self, closure: &[RoleName], written: &[Spanned<String>]) -> Vec<RoleName> {
        let nodes = self.fleet.nodes.values();
        let had = self
            .roles
            .closure(nodes.flat_map(|node| node.roles.iter().map(|(role, _)| role)));
        let users = |role: &RoleName| {
            self.roles
                .get(role.as_str())
                .is_some_and(crate::role::Role::is_users)
        };
        let missing: Vec<RoleName> = closure
            .iter()
            .filter(|role| !had.contains(role) && !users(role))
            .cloned()
            .collect();
        if !self.dir.builtin {
            for role in written {
                if missing.iter().any(|m| m.as_str() == role.get_ref()) {
                    self.error(
                        "image::role-of-no-node",
                        role.span(),
                        format!("no node of the fleet has the role {}", role.get_ref()),
                        "its package is not built",
                        "give the role to a node in fleet.toml, or leave it out here",
                    );
                }
            }
        }
        missing
    }

    fn packages(&mut self, written: &[Spanned<String>]) -> Vec<String> {
        let mut packages = Vec::new();
        for package in written {
            let name = package.get_ref();
            if syntax::dependency(name) != Ok(vec![name.clone()]) {
                self.error(
                    "image::package",
                    package.span(),
                    format!("{name:?} is not the name of a package"),
                    "installed from Debian (Policy 5.6.7)",
                    "write a name such as \"htop\", without a version",
                );
            } else if !self.archive.is_empty() && !self.archive.has(name) {
                let help = self.archive.similar(name).map_or_else(
                    || "see https://packages.debian.org, or `apt-cache search`".to_owned(),
                    |near| format!("did you mean {near:?}?"),
                );
                self.error(
                    "image::unknown-package",
                    package.span(),
                    format!("Debian {} has no package {name}", self.fleet.suite),
                    "not in its component main",
                    help,
                );
            } else if !packages.contains(name) {
                packages.push(name.clone());
            }
        }
        packages
    }

    fn kernel(&mut self, written: Option<&Spanned<String>>) -> String {
        let Some(kernel) = written else {
            return KERNELS[0].into();
        };
        if !KERNELS.contains(&kernel.get_ref().as_str()) {
            self.error(
                "image::kernel",
                kernel.span(),
                format!(
                    "{:?} is no kernel of Debian's that follows its updates",
                    kernel.get_ref()
                ),
                "the package that depends on the newest kernel",
                format!("write one of {}", KERNELS.join(", ")),
            );
        }
        kernel.get_ref().clone()
    }

    fn locales(&mut self, written: &[Spanned<String>]) {
        for locale in written {
            let text = locale.get_ref();
            let good = text.strip_suffix(".UTF-8").is_some_and(|head| {
                head.len() >= 5
                    && head
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"_@".contains(&b))
                    && head.as_bytes()[..2].iter().all(u8::is_ascii_lowercase)
                    && head.contains('_')
            });
            if !good {
                self.error(
                    "image::locale",
                    locale.span(),
                    format!("{text:?} is not the name of a UTF-8 locale"),
                    "generated by locale-gen(8)",
                    "write it as \"de_DE.UTF-8\"; C.UTF-8 is there without being named",
                );
            }
        }
    }

    fn size(&mut self, written: Option<&Spanned<String>>, bare: bool) -> u64 {
        let default = if bare { 2048 } else { 3072 };
        let Some(size) = written else {
            return default * MIB;
        };
        let mib = parse_size(size.get_ref());
        match mib {
            Some(mib) if (LEAST_MIB..=LARGEST_MIB).contains(&mib) => mib * MIB,
            _ => {
                self.error(
                    "image::size",
                    size.span(),
                    format!("the disk's size cannot be {:?}", size.get_ref()),
                    "a number of MiB or GiB",
                    format!(
                        "write \"3G\" or \"2500M\", from {LEAST_MIB}M to {}G",
                        LARGEST_MIB / 1024
                    ),
                );
                default * MIB
            }
        }
    }

    fn formats(&mut self, written: Option<&[Spanned<Format>]>) -> Vec<Format> {
        let Some(written) = written else {
            return vec![Format::Raw, Format::Qcow2];
        };
        if written.is_empty() {
            self.error(
                "image::no-format",
                0..0,
                "`formats` is empty".into(),
                "nothing would be made",
                "write formats = [\"raw\", \"qcow2\"]",
            );
        }
        let all: BTreeSet<Format> = written.iter().map(|f| *f.get_ref()).collect();
        all.into_iter().collect()
    }

    fn firmware(&mut self, written: Option<&Spanned<Vec<Firmware>>>) -> Vec<Firmware> {
        let Some(written) = written else {
            return vec![Firmware::Bios, Firmware::Uefi];
        };
        if written.get_ref().is_empty() {
            self.error(
                "image::no-firmware",
                written.span(),
                "nothing can start the image".into(),
                "neither BIOS nor UEFI",
                "write firmware = [\"bios\", \"uefi\"], or leave it out",
            );
        }
        let all: BTreeSet<Firmware> = written.get_ref().iter().copied().collect();
        all.into_iter().collect()
    }

    fn consoles(&mut self, written: Option<&[Spanned<String>]>) -> Vec<String> {
        let Some(written) = written else {
            return vec!["tty0".into(), "ttyS0,115200".into()];
        };
        for console in written {
            let good = console
                .get_ref()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b',');
            if !good || !console.get_ref().starts_with("tty") {
                self.error(
                    "image::console",
                    console.span(),
                    format!("{:?} is no console of the kernel", console.get_ref()),
                    "goes behind console= on its command line",
                    "write \"tty0\" or \"ttyS0,115200\"",
                );
            }
        }
        written.iter().map(|c| c.get_ref().clone()).collect()
    }

    fn data_sources(&mut self, written: Option<&[Spanned<String>]>) -> Vec<String> {
        let Some(written) = written else {
            return ["ConfigDrive", "NoCloud", "None"].map(str::to_owned).into();
        };
        for source in written {
            let name = source.get_ref().as_str();
            if !DATA_SOURCES.contains(&name) {
                let help = closest(name, DATA_SOURCES.into_iter()).map_or_else(
                    || format!("known are {}", DATA_SOURCES.join(", ")),
                    |near| format!("did you mean {near:?}?"),
                );
                self.error(
                    "image::data-source",
                    source.span(),
                    format!("{name:?} is no data source"),
                    "cloud-init would not know where to look for the seed",
                    help,
                );
            }
        }
        let place = |name: &str| written.iter().position(|s| s.get_ref() == name);
        if let (Some(drive), Some(nocloud)) = (place("ConfigDrive"), place("NoCloud"))
            && nocloud < drive
        {
            self.findings.warning(
                "image::nocloud-first",
                Place::new(self.source(), written[nocloud].span()),
                "NoCloud stands before ConfigDrive",
                "droplets of DigitalOcean have a drive with both, and the one for NoCloud is of no use",
                "write data_sources = [\"ConfigDrive\", \"NoCloud\", \"None\"]",
            );
        }
        written.iter().map(|s| s.get_ref().clone()).collect()
    }
}

/// MiB of a size such as `3G` or `2500M`.
fn parse_size(text: &str) -> Option<u64> {
    let (number, factor) = match text.strip_suffix('G') {
        Some(number) => (number, 1024),
        None => (text.strip_suffix('M')?, 1),
    };
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_whole_numbers_of_mib_or_gib() {
        assert_eq!(parse_size("3G"), Some(3072));
        assert_eq!(parse_size("2500M"), Some(2500));
        for bad in [
            "",
            "G",
            "3",
            "3g",
            "-1G",
            "+3G",
            "3.5G",
            "99999999999999999999G",
        ] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
