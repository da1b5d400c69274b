//! GUID partition tables ([UEFI 2.10], chapter 5) and the blocks with which GRUB starts from such a disk on a BIOS.
//!
//! Sectors have 512 bytes. Nothing is taken from a clock or from chance: identifiers are the caller's.
//!
//! Why not a library or sfdisk(8): the crate gpt writes to a file and makes identifiers of its own; sfdisk is one program more whose
//! version could matter. What is needed of the format are two structures.
//!
//! [UEFI 2.10]: https://uefi.org/specs/UEFI/2.10/05_GUID_Partition_Table_Format.html

use sha2::{Digest as _, Sha256};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Partition entries of a table; more than a boot disk needs, and the least that the specification allows.
const ENTRIES: usize = 128;
/// Bytes of an entry.
const ENTRY: usize = 128;
/// Bytes of a header.
const HEADER: usize = 92;
/// Sectors of the array of entries.
const ARRAY_SECTORS: u64 = (ENTRIES * ENTRY) as u64 / SECTOR;
/// First sector that a partition may use: after the protective MBR, the header and the entries.
pub const FIRST_USABLE: u64 = 2 + ARRAY_SECTORS;

/// An identifier, in the order of its text (RFC 9562).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// Type of a partition into which GRUB's core image is put for a BIOS.
    pub const BIOS_BOOT: Self = Self::parse("21686148-6449-6e6f-744e-656564454649");
    /// Type of an EFI system partition.
    pub const EFI_SYSTEM: Self = Self::parse("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    /// Type of the root file system of an x86-64 machine ([Discoverable Partitions Specification]).
    ///
    /// [Discoverable Partitions Specification]: https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
    pub const LINUX_ROOT_X86_64: Self = Self::parse("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");

    /// The identifier that follows from a text: version 8 of RFC 9562, the beginning of the text's SHA-256.
    #[must_use]
    pub fn derived(text: &str) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(text)[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    const fn parse(text: &str) -> Self {
        let text = text.as_bytes();
        let mut bytes = [0; 16];
        let (mut at, mut to) = (0, 0);
        while to < 16 {
            if text[at] == b'-' {
                at += 1;
            }
            bytes[to] = digit(text[at]) << 4 | digit(text[at + 1]);
            at += 2;
            to += 1;
        }
        Self(bytes)
    }

    /// As it stands on a disk: the first three fields are little endian.
    fn on_disk(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }
}

const fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => panic!("not a hexadecimal digit"),
    }
}

impl std::fmt::Display for Guid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&at) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: Guid,
    /// Its own identifier.
    pub id: Guid,
    /// Its first sector.
    pub first: u64,
    /// How many sectors it has.
    pub sectors: u64,
    /// What people call it; at most 36 characters of UTF-16.
    pub name: &'static str,
}

impl Partition {
    /// Its last sector.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + self.sectors.saturating_sub(1)
    }
}

/// Why there can be no such table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GptError {
    /// The disk has no room for two tables.
    #[error("a disk of {0} sectors has no room for a partition table")]
    DiskTooSmall(u64),
    /// A partition that is empty, or not between the tables.
    #[error(
        "partition {name}: sectors {first} to {last} are not between {} and {usable}",
        FIRST_USABLE
    )]
    Outside {
        /// The partition.
        name: &'static str,
        /// Its first sector.
        first: u64,
        /// Its last.
        last: u64,
        /// The last one that may be used.
        usable: u64,
    },
    /// Two partitions share sectors.
    #[error("the partitions {0} and {1} overlap")]
    Overlap(&'static str, &'static str),
    /// More than 128, or a name of more than 36 characters.
    #[error("{0} does not fit into a partition table")]
    TooMuch(&'static str),
}

/// What to write where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// From the disk's first byte on: protective MBR, header, entries.
    pub front: Vec<u8>,
    /// At its end: entries, header.
    pub back: Vec<u8>,
    /// The sector where `back` begins.
    pub back_sector: u64,
}

/// Last sector that a partition may use on a disk of so many sectors.
#[must_use]
pub fn last_usable(sectors: u64) -> u64 {
    sectors.saturating_sub(2 + ARRAY_SECTORS)
}

/// The tables of a disk.
///
/// # Errors
/// [`GptError`].
pub fn tables(sectors: u64, disk: Guid, partitions: &[Partition]) -> Result<Tables, GptError> {
    let usable = last_usable(sectors);
    if usable < FIRST_USABLE {
        return Err(GptError::DiskTooSmall(sectors));
    }
    if partitions.len() > ENTRIES {
        return Err(GptError::TooMuch(partitions[ENTRIES].name));
    }
    for (at, partition) in partitions.iter().enumerate() {
        let end = partition.first.checked_add(partition.sectors);
        if partition.sectors == 0
            || partition.first < FIRST_USABLE
            || end.is_none_or(|end| end > usable + 1)
        {
            return Err(GptError::Outside {
                name: partition.name,
                first: partition.first,
                last: end.map_or(u64::MAX, |end| end.saturating_sub(1)),
                usable,
            });
        }
        if let Some(other) = partitions[..at]
            .iter()
            .find(|other| other.first <= partition.last() && partition.first <= other.last())
        {
            return Err(GptError::Overlap(other.name, partition.name));
        }
    }
    let entries = entries(partitions)?;
    let sums = crc32fast::hash(&entries);
    let header = |own: u64, other: u64, array: u64| {
        let mut header = Vec::with_capacity(512);
        header.extend(b"EFI PART");
        header.extend(0x0001_0000_u32.to_le_bytes());
        header.extend((HEADER as u32).to_le_bytes());
        header.extend([0; 8]);
        for number in [own, other, FIRST_USABLE, usable] {
            header.extend(number.to_le_bytes());
        }
        header.extend(disk.on_disk());
        header.extend(array.to_le_bytes());
        header.extend((ENTRIES as u32).to_le_bytes());
        header.extend((ENTRY as u32).to_le_bytes());
        header.extend(sums.to_le_bytes());
        let sum = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header.resize(512, 0);
        header
    };
    let last = sectors - 1;
    let back_sector = last - ARRAY_SECTORS;
    let mut front = protective_mbr(sectors);
    front.extend(header(1, last, 2));
    front.extend(&entries);
    let mut back = entries;
    back.extend(header(last, 1, back_sector));
    Ok(Tables {
        front,
        back,
        back_sector,
    })
}

fn entries(partitions: &[Partition]) -> Result<Vec<u8>, GptError> {
    let mut bytes = Vec::with_capacity(ENTRIES * ENTRY);
    for partition in partitions {
        let end = bytes.len() + ENTRY;
        bytes.extend(partition.kind.on_disk());
        bytes.extend(partition.id.on_disk());
        bytes.extend(partition.first.to_le_bytes());
        bytes.extend(partition.last().to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(partition.name.encode_utf16().flat_map(u16::to_le_bytes));
        if bytes.len() > end {
            return Err(GptError::TooMuch(partition.name));
        }
        bytes.resize(end, 0);
    }
    bytes.resize(ENTRIES * ENTRY, 0);
    Ok(bytes)
}

/// A boot record with one partition over everything, so that programs that know no GPT leave the disk alone (5.2.3).
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0; 512];
    let entry = &mut mbr[446..462];
    entry[2] = 0x02;
    entry[4] = 0xee;
    entry[5..8].copy_from_slice(&[0xff; 3]);
    entry[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let size = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    entry[12..16].copy_from_slice(&size.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

/// Where GRUB's blocks cannot be put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// `boot.img` has 512 bytes.
    #[error("boot.img has {0} bytes instead of 512")]
    Boot(usize),
    /// A core image begins with a sector of its own, and has at least one more.
    #[error("GRUB's core image has {0} bytes, too few")]
    Core(usize),
}

/// Puts GRUB's first block into the boot record, and tells both blocks where the core image is, as grub-install(8) does:
/// `boot.img` loads the sector at `lba`, which loads what follows it.
///
/// # Errors
/// [`BootError`].
pub fn install_bios_boot(
    front: &mut [u8],
    boot: &[u8],
    core: &mut [u8],
    lba: u64,
) -> Result<(), BootError> {
    /// Code, before the partition table and the disk's signature.
    const CODE: usize = 440;
    /// `kernel_sector` of boot.img.
    const KERNEL_SECTOR: usize = 0x5c;
    /// `boot_drive_check`: a jump that is left out on hard disks.
    const DRIVE_CHECK: usize = 0x66;
    /// The last block list of the core's first sector: sector, length, segment.
    const BLOCK_LIST: usize = 500;
    if boot.len() != 512 {
        return Err(BootError::Boot(boot.len()));
    }
    if core.len() <= 512 {
        return Err(BootError::Core(core.len()));
    }
    front[..CODE].copy_from_slice(&boot[..CODE]);
    front[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&lba.to_le_bytes());
    front[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(lba + 1).to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
