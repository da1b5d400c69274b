//! image.toml as it is written: shapes and spans, nothing checked beyond them.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "these comments name tables of TOML and are the descriptions of the JSON Schema"
)]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use toml::Spanned;

/// An image: a disk with Debian and roles on it, for any number of machines.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "image.toml")]
pub struct ImageFile {
    /// What the image is.
    pub image: Head,
    /// What is on it beside the roles and what every image has.
    #[serde(default)]
    pub system: System,
    /// The disk and the files that it is written into.
    #[serde(default)]
    pub disk: Disk,
    /// How it starts.
    #[serde(default)]
    pub boot: Boot,
}

/// [image]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// One line about it.
    pub summary: String,
    /// Roles of the fleet; those that they require, and the services and sites that come with `app` and `edge`, are added.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub roles: Vec<Spanned<String>>,
}

/// [system]
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct System {
    /// More packages of Debian.
    #[schemars(with = "Vec<String>")]
    pub packages: Vec<Spanned<String>>,
    /// Which kernel: `cloud` has the drivers of virtual machines, `generic` those of all others too.
    pub kernel: Kernel,
    /// The system's locale. C.UTF-8 is there already, others are generated.
    #[schemars(with = "Option<String>")]
    pub locale: Option<Spanned<String>>,
}

/// [disk]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// Size of the disk, in MiB (`"1500M"`) or GiB (`"2G"`). On its first boot a machine takes all that its own disk has.
    #[schemars(with = "String")]
    pub size: Spanned<String>,
    /// What is written: `raw`, `qcow2`, `gzip` (the raw disk, compressed) and `tar` (the root directory, for the lab).
    #[schemars(with = "Vec<Format>")]
    pub formats: Spanned<Vec<Format>>,
    /// How qcow2 is compressed. Every qemu and every provider reads `zlib`.
    pub compression: Compression,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            size: Spanned::new(0..0, "2G".to_owned()),
            formats: Spanned::new(0..0, vec![Format::Qcow2]),
            compression: Compression::Zlib,
        }
    }
}

/// [boot]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Boot {
    /// Which firmware it starts from. With both, it starts from either.
    #[schemars(with = "Vec<Firmware>")]
    pub firmware: Spanned<Vec<Firmware>>,
    /// Where cloud-init looks for the seed, in this order.
    #[schemars(with = "Vec<DataSource>")]
    pub data_sources: Spanned<Vec<DataSource>>,
    /// More arguments for the kernel.
    #[schemars(with = "Option<String>")]
    pub kernel_arguments: Option<Spanned<String>>,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            firmware: Spanned::new(0..0, vec![Firmware::Bios, Firmware::Uefi]),
            data_sources: Spanned::new(
                0..0,
                vec![
                    DataSource::ConfigDrive,
                    DataSource::NoCloud,
                    DataSource::None,
                ],
            ),
            kernel_arguments: None,
        }
    }
}

/// A kernel package of Debian.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// linux-image-cloud-amd64
    #[default]
    Cloud,
    /// linux-image-amd64
    Generic,
}

impl Kernel {
    /// The package.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Generic => "linux-image-amd64",
        }
    }
}

/// A file that an image is written into.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The disk as it is.
    Raw,
    /// qemu's format, compressed.
    Qcow2,
    /// The disk in gzip's format.
    Gzip,
    /// The root directory.
    Tar,
}

impl Format {
    /// What the file's name ends in.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Gzip => "raw.gz",
            Self::Tar => "tar",
        }
    }
}

/// How a qcow2 is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Deflate.
    #[default]
    Zlib,
    /// Zstandard: made in a fifth of the time, read by qemu 5.1 and later.
    Zstd,
}

impl Compression {
    /// As qemu-img calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

/// What starts the boot loader.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// The disk's first sector.
    Bios,
    /// A file on the EFI system partition.
    Uefi,
}

/// A data source of cloud-init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DataSource {
    /// A disk labelled config-2: OpenStack's, and DigitalOcean's.
    ConfigDrive,
    /// A disk labelled cidata, or files of the image.
    NoCloud,
    /// Nowhere: without a seed the machine starts all the same.
    None,
}

impl DataSource {
    /// As cloud-init calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigDrive => "ConfigDrive",
            Self::NoCloud => "NoCloud",
            Self::None => "None",
        }
    }
}
