//! Images: image.toml, checked.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    applications::{SERVICE_PREFIX, SITE_PREFIX},
    archive_names::closest,
    finding::{Findings, Place, Severity},
    ids::{PackageName, RoleName},
    image_file::{Compression, DataSource, Firmware, Format, ImageFile, Kernel},
    plan::RolePlan,
    source::{SourceId, Sources},
    validate::toml_error::{self, Document},
};

/// What every image has besides Essential packages and apt: what Debian's cloud images have and nodes rely on, and what a
/// machine needs to start by itself and to stay able to.
pub const PACKAGES: [&str; 25] = [
    "ca-certificates",
    "cloud-guest-utils",
    "cloud-init",
    "dbus",
    "e2fsprogs",
    "fdisk",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "grub2-common",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libpam-systemd",
    "netbase",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "tzdata",
    "udev",
    "zstd",
];

/// Least size of a disk, in bytes: partitions for boot loaders, and a root file system that Debian fits into.
const LEAST: u64 = 1 << 30;
/// Largest size: DigitalOcean takes no larger image ("Custom Images Limits").
const LARGEST: u64 = 100 << 30;

/// An image's directory as it was read.
#[derive(Debug, Clone)]
pub struct ImageDir {
    /// The directory's name.
    pub name: String,
    /// Its image.toml.
    pub manifest: SourceId,
}

/// An image, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// Roles that were asked for.
    pub roles: Vec<RoleName>,
    /// More packages of Debian.
    pub packages: Vec<String>,
    /// The kernel.
    pub kernel: Kernel,
    /// The locale.
    pub locale: String,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Files to write.
    pub formats: BTreeSet<Format>,
    /// Compression of qcow2.
    pub compression: Compression,
    /// What it starts from.
    pub firmware: BTreeSet<Firmware>,
    /// Where cloud-init looks.
    pub data_sources: Vec<DataSource>,
    /// More arguments for the kernel.
    pub kernel_arguments: String,
}

impl Image {
    /// Debian's packages that are installed before any role.
    #[must_use]
    pub fn debian_packages(&self) -> BTreeSet<String> {
        let mut packages: BTreeSet<String> = PACKAGES.iter().map(|p| (*p).to_owned()).collect();
        packages.insert(self.kernel.package().to_owned());
        if self.locale != DEFAULT_LOCALE {
            packages.insert("locales".to_owned());
        }
        packages.extend(self.packages.iter().cloned());
        packages
    }

    /// The roles of the fleet that are on it, with all that they require: `base` where there is any.
    #[must_use]
    pub fn role_closure<'p>(&self, roles: &'p [RolePlan]) -> Vec<&'p RolePlan> {
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = self.roles.iter().map(RoleName::as_str).collect();
        if !open.is_empty() {
            open.push("base");
        }
        while let Some(name) = open.pop() {
            if !wanted.insert(name) {
                continue;
            }
            for role in roles {
                if role.name.as_str() == name {
                    open.extend(role.requires.iter().map(RoleName::as_str));
                }
                // Made of [[services]] and [[sites]]: on every machine that has the role they are for.
                let beside = match name {
                    "app" => SERVICE_PREFIX,
                    "edge" => SITE_PREFIX,
                    _ => continue,
                };
                if role.name.as_str().starts_with(beside) {
                    open.push(role.name.as_str());
                }
            }
        }
        roles
            .iter()
            .filter(|role| wanted.contains(role.name.as_str()))
            .collect()
    }
}

const DEFAULT_LOCALE: &str = "C.UTF-8";

/// Reads all images; those with errors are left out. The last of a name counts: the fleet's own.
pub fn load(
    sources: &Sources,
    dirs: &[ImageDir],
    roles: &[RolePlan],
    findings: &mut Findings,
) -> BTreeMap<String, Image> {
    let mut images = BTreeMap::new();
    for dir in dirs {
        match read(sources, dir, roles, findings) {
            Some(image) => images.insert(dir.name.clone(), image),
            // A fleet's image with errors is not the built-in one of its name.
            None => images.remove(&dir.name),
        };
    }
    images
}

fn read(
    sources: &Sources,
    dir: &ImageDir,
    roles: &[RolePlan],
    findings: &mut Findings,
) -> Option<Image> {
    let id = dir.manifest;
    let before = errors(findings);
    if PackageName::new(dir.name.as_str()).is_err() {
        findings.error(
            "image::name",
            Place::whole(id),
            format!(
                "the image's directory {:?} is no name for an image",
                dir.name
            ),
            "files and cache entries are named after it",
            "use lower-case letters, digits, and + - . within it",
        );
    }
    let Some(text) = sources.get(id).text() else {
        findings.error(
            "image::not-utf8",
            Place::whole(id),
            "image.toml is not UTF-8",
            "TOML files are UTF-8 by definition",
            "convert it, for example with iconv(1)",
        );
        return None;
    };
    let file: ImageFile = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            let document = Document {
                id,
                text,
                name: "image.toml",
                docs: "docs/images.md",
            };
            toml_error::report(document, &error, findings);
            return None;
        }
    };
    let chosen_roles = chosen(id, &file, roles, findings);
    let packages = packages(id, &file, findings);
    let size = size(id, &file, findings);
    for (span, empty, key) in [
        (
            file.disk.formats.span(),
            file.disk.formats.get_ref().is_empty(),
            "formats",
        ),
        (
            file.boot.firmware.span(),
            file.boot.firmware.get_ref().is_empty(),
            "firmware",
        ),
        (
            file.boot.data_sources.span(),
            file.boot.data_sources.get_ref().is_empty(),
            "data_sources",
        ),
    ] {
        if empty {
            findings.error(
                "image::empty",
                Place::new(id, span),
                format!("`{key}` is empty"),
                "nothing would come of such an image",
                "name at least one, or leave the key out for the default",
            );
        }
    }
    data_sources(id, &file, findings);
    let locale = file.system.locale.as_ref();
    let arguments = file.boot.kernel_arguments.as_ref();
    for (value, key, fits) in [
        (
            locale,
            "locale",
            (|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b)) as fn(u8) -> bool,
        ),
        // Written into a file that a shell reads, between double quotation marks.
        (arguments, "kernel_arguments", |b: u8| {
            b.is_ascii_graphic() && !b"\"$`\\".contains(&b) || b == b' '
        }),
    ] {
        if let Some(value) =
            value.filter(|v| v.get_ref().is_empty() || !v.get_ref().bytes().all(fits))
        {
            findings.error(
                "image::value",
                Place::new(id, value.span()),
                format!("{:?} cannot be `{key}`", value.get_ref()),
                "it is written into files that a shell and the boot loader read",
                "use plain words such as \"de_DE.UTF-8\" or \"mitigations=auto quiet\"",
            );
        }
    }
    (errors(findings) == before).then(|| Image {
        name: dir.name.clone(),
        summary: file.image.summary.clone(),
        roles: chosen_roles,
        packages,
        kernel: file.system.kernel,
        locale: locale.map_or(DEFAULT_LOCALE, |l| l.get_ref()).to_owned(),
        size,
        formats: file.disk.formats.get_ref().iter().copied().collect(),
        compression: file.disk.compression,
        firmware: file.boot.firmware.get_ref().iter().copied().collect(),
        data_sources: file.boot.data_sources.get_ref().clone(),
        kernel_arguments: arguments.map(|a| a.get_ref().clone()).unwrap_or_default(),
    })
}

fn errors(findings: &Findings) -> usize {
    let all = findings.as_slice().iter();
    all.filter(|finding| finding.severity == Severity::Error)
        .count()
}

fn chosen(
    id: SourceId,
    file: &ImageFile,
    roles: &[RolePlan],
    findings: &mut Findings,
) -> Vec<RoleName> {
    let mut found = Vec::new();
    for wanted in &file.image.roles {
        let known = roles.iter().find(|r| r.name.as_str() == wanted.get_ref());
        match known {
            Some(role) => found.push(role.name.clone()),
            None => {
                let names: Vec<&str> = roles.iter().map(|r| r.name.as_str()).collect();
                findings.error(
                    "image::unknown-role",
                    Place::new(id, wanted.span()),
                    format!("no node of this fleet has the role {:?}", wanted.get_ref()),
                    "an image is made of the fleet's packages, and roles that no node has are not built",
                    closest(wanted.get_ref(), names.iter().copied()).map_or_else(
                        || format!("roles of this fleet's nodes: {}", names.join(", ")),
                        |near| format!("did you mean {near:?}?"),
                    ),
                );
            }
        }
    }
    found
}

fn packages(id: SourceId, file: &ImageFile, findings: &mut Findings) -> Vec<String> {
    let mut packages = Vec::new();
    for package in &file.system.packages {
        if PackageName::new(package.get_ref().as_str()).is_ok() {
            packages.push(package.get_ref().clone());
        } else {
            findings.error(
                "image::package",
                Place::new(id, package.span()),
                format!("{:?} is not the name of a package", package.get_ref()),
                "Policy 5.6.7: lower-case letters, digits, and + - . within it",
                "name a package as `apt-cache search` shows it, without a version",
            );
        }
    }
    packages
}

fn size(id: SourceId, file: &ImageFile, findings: &mut Findings) -> u64 {
    let text = file.disk.size.get_ref();
    let bytes = text
        .strip_suffix('G')
        .map(|number| (number, 30))
        .or_else(|| text.strip_suffix('M').map(|number| (number, 20)))
        .and_then(|(number, shift)| {
            let number: u64 = number.parse().ok()?;
            number.checked_mul(1 << shift)
        });
    match bytes {
        Some(bytes) if (LEAST..=LARGEST).contains(&bytes) => bytes,
        _ => {
            findings.error(
                "image::size",
                Place::new(id, file.disk.size.span()),
                format!("{text:?} is not the size of an image"),
                "it is a whole number of MiB or GiB, from 1G to 100G",
                "write \"2G\" or \"1500M\"",
            );
            LEAST
        }
    }
}

/// cloud-init takes the first that answers, and looks no further.
fn data_sources(id: SourceId, file: &ImageFile, findings: &mut Findings) {
    let sources = file.boot.data_sources.get_ref();
    let at = |wanted: DataSource| sources.iter().position(|source| *source == wanted);
    let place = Place::new(id, file.boot.data_sources.span());
    if let (Some(nocloud), Some(drive)) = (at(DataSource::NoCloud), at(DataSource::ConfigDrive))
        && nocloud < drive
    {
        findings.error(
            "image::data-sources",
            place.clone(),
            "NoCloud stands before ConfigDrive",
            "on a droplet NoCloud answers first, without the droplet's seed",
            "write [\"ConfigDrive\", \"NoCloud\", \"None\"]",
        );
    }
    if at(DataSource::None).is_some_and(|none| none + 1 != sources.len()) {
        findings.error(
            "image::data-sources",
            place,
            "something stands behind None",
            "None always answers, so that nothing behind it is ever asked",
            "move it to the end",
        );
    }
}

#[cfg(test)]
mod tests;
