//! A checked image.toml: what is installed on a disk, and what the disk is like.

use crate::{
    ids::{ImageName, PackageName, RoleName, Suite},
    image_file::{Compression, Firmware, Format},
    source::SourceId,
};

/// What every image has besides Essential and apt. Nothing that a role should depend on by itself: the clock is set by what the role
/// base brings.
///
/// `grub-cloud-amd64` is the boot loader of Debian's own cloud images: an upgrade installs it for BIOS and for UEFI without a question.
const SYSTEM: [&str; 20] = [
    "ca-certificates",
    "cloud-guest-utils",
    "cloud-init",
    "dbus",
    "e2fsprogs",
    "fdisk",
    "grub-cloud-amd64",
    "iproute2",
    "iputils-ping",
    "libpam-systemd",
    "netbase",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "tzdata",
    "udev",
    "zstd",
];

/// An image, with nothing left to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name: that of its directory.
    pub name: ImageName,
    /// Its image.toml.
    pub source: SourceId,
    /// Shipped with rolesmith, rather than found in the fleet's own `images/`.
    pub builtin: bool,
    /// One line that says what it is for.
    pub summary: String,
    /// Its Debian release.
    pub suite: Suite,
    /// Its roles with those they require, each after what it needs; empty for Debian alone.
    pub roles: Vec<RoleName>,
    /// Those among them that no node has, so that their packages are not built. An image with such roles cannot be baked.
    pub unbuilt: Vec<RoleName>,
    /// The fleet's packages that are installed.
    pub fleet_packages: Vec<PackageName>,
    /// Further packages of Debian, the kernel among them.
    pub packages: Vec<String>,
    /// The kernel's package.
    pub kernel: String,
    /// Locales besides C.UTF-8.
    pub locales: Vec<String>,
    /// Units of Debian's packages that its roles mask.
    pub masked_units: Vec<String>,
    /// Answers to questions of Debian's packages (debconf-set-selections(1)).
    pub debconf: Vec<String>,
    /// Size of the disk in bytes, a multiple of 1 MiB.
    pub size: u64,
    /// What is made, without repetition.
    pub formats: Vec<Format>,
    /// How the qcow2 is compressed.
    pub compression: Compression,
    /// What may start it, without repetition.
    pub firmware: Vec<Firmware>,
    /// Kernel consoles, the last one being /dev/console.
    pub consoles: Vec<String>,
    /// Names of cloud-init's data sources, in the order in which they are asked.
    pub data_sources: Vec<String>,
}

impl Image {
    /// Packages of Debian that its base tree is made of, sorted.
    #[must_use]
    pub fn debian_packages(&self) -> Vec<String> {
        let mut all: Vec<String> = SYSTEM.iter().map(|name| (*name).to_owned()).collect();
        all.extend(self.packages.iter().cloned());
        all.push(self.kernel.clone());
        if !self.locales.is_empty() {
            all.push("locales".into());
        }
        all.sort();
        all.dedup();
        all
    }

    /// Whether that firmware may start it.
    #[must_use]
    pub fn boots_with(&self, firmware: Firmware) -> bool {
        self.firmware.contains(&firmware)
    }
}
