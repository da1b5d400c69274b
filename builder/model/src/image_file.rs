//! image.toml as it is written: shapes and spans, nothing checked beyond them.
//!
//! The JSON Schema that editors use comes from these types, so their comments are what a person sees while typing.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "these comments name tables of TOML and are the descriptions of the JSON Schema"
)]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use toml::Spanned;

/// An image: a machine's disk on which everything is installed and nothing is decided.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "image.toml")]
pub struct ImageFile {
    /// What is in it.
    pub image: Head,
    /// Its disk.
    #[serde(default)]
    pub disk: DiskEntry,
    /// How it boots.
    #[serde(default)]
    pub boot: BootEntry,
    /// Where its first boot looks for a seed.
    #[serde(default)]
    pub cloud_init: CloudInitEntry,
}

/// [image]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// One line that says what it is for.
    #[schemars(with = "String")]
    pub summary: Spanned<String>,
    /// Debian release [default: the fleet's].
    #[schemars(with = "Option<String>")]
    pub suite: Option<Spanned<String>>,
    /// Roles that are installed in it, with those that they require. Their services are installed too.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub roles: Vec<Spanned<String>>,
    /// Further packages of Debian.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub packages: Vec<Spanned<String>>,
    /// The kernel's package: "linux-image-cloud-amd64" (default) knows the disks and networks of virtual machines,
    /// "linux-image-amd64" those of all machines.
    #[schemars(with = "Option<String>")]
    pub kernel: Option<Spanned<String>>,
    /// Locales that are generated, such as "de_DE.UTF-8". C.UTF-8 is always there, and is the default of the machine.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub locales: Vec<Spanned<String>>,
}

/// [disk]
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskEntry {
    /// Size of the disk, such as "4G" or "3500M" (powers of 1024). The first boot grows the root file system to the size of the
    /// machine's disk.
    #[schemars(with = "Option<String>")]
    pub size: Option<Spanned<String>>,
    /// What is made: "raw", "qcow2", "gzip" (of the raw disk) and "tar" (of the tree, for the lab) [default: raw and qcow2].
    #[schemars(with = "Option<Vec<Format>>")]
    pub formats: Option<Vec<Spanned<Format>>>,
    /// How the qcow2 is compressed: "zlib" (default; every hypervisor reads it) or "zstd" (smaller and faster).
    #[serde(default)]
    pub compression: Compression,
}

/// What a disk is written as.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The disk's bytes, with holes where nothing is.
    Raw,
    /// QEMU's format, compressed.
    Qcow2,
    /// The disk's bytes, compressed by gzip(1).
    Gzip,
    /// The tree of files.
    Tar,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Format::Raw, Format::Qcow2, Format::Gzip, Format::Tar];

    /// What is put behind the image's name and a dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Gzip => "raw.gz",
            Format::Tar => "tar",
        }
    }
}

/// How clusters of a qcow2 are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As every version of QEMU reads it.
    #[default]
    Zlib,
    /// As QEMU 5.1 and later read it.
    Zstd,
}

impl Compression {
    /// As `qemu-img -o compression_type=` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Compression::Zlib => "zlib",
            Compression::Zstd => "zstd",
        }
    }
}

/// [boot]
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootEntry {
    /// What may start it: "bios" and "uefi" [default: both].
    #[schemars(with = "Option<Vec<Firmware>>")]
    pub firmware: Option<Spanned<Vec<Firmware>>>,
    /// Where the kernel writes to, the last one being /dev/console [default: tty0 and ttyS0,115200].
    #[schemars(with = "Option<Vec<String>>")]
    pub consoles: Option<Vec<Spanned<String>>>,
}

/// What starts a machine.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// A PC's BIOS, or SeaBIOS.
    Bios,
    /// UEFI, with Secure Boot or without.
    Uefi,
}

/// [cloud_init]
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudInitEntry {
    /// Where cloud-init looks for a seed, in this order [default: ConfigDrive, NoCloud, None].
    #[schemars(with = "Option<Vec<String>>")]
    pub data_sources: Option<Vec<Spanned<String>>>,
}
