//! ISO 9660 images, the disks that cloud-init's NoCloud and ConfigDrive data sources read ([ECMA-119], with [Joliet] and
//! Rock Ridge, which is SUSP 1.10 and RRIP 1.10).
//!
//! Plain ISO 9660 has no `user-data`: no lower case and no hyphen. Linux reads such names from Rock Ridge, others from
//! Joliet, so every image has both; the two directory trees share the files' data.
//!
//! Why not a library: hadris-iso 2.5 knows all three formats, but takes the time of its directory records and volume
//! descriptors from the clock and has no option for another, so that the same seed would give other bytes at every run.
//! It also brings chrono and 21 000 lines, mostly for booting and for sessions, for the few structures written here.
//!
//! Times are fixed: the volume's are left unset, which also means that it has no UUID for libblkid, and those of files
//! and directories are 1970-01-01. (Unset there is permitted, too, but Linux 6.1 shows it as a day in 2036.)
//!
//! [ECMA-119]: https://ecma-international.org/publications-and-standards/standards/ecma-119/
//! [Joliet]: https://pismotec.com/cfs/jolspec.html

mod names;
mod records;
mod tree;
mod volume;

use records::{Extent, Hierarchy};
use tree::Tree;

/// Bytes in a logical sector and in a logical block, both.
const SECTOR: usize = 2048;
/// Sectors left to whoever wants to boot from the image.
const SYSTEM_AREA: u32 = 16;
/// Primary volume descriptor, Joliet's and the terminator.
const DESCRIPTORS: u32 = 3;

/// Why an image could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsoError {
    /// A volume label must be 1 to 16 ASCII letters, digits, `.`, `_` or `-`. (16 is what Joliet has room for.)
    #[error("{0:?} is not a volume label")]
    Volume(String),
    /// An image cannot have this file.
    #[error("{path:?} cannot be a file of an image: {reason}")]
    File {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The image would need more than 2³² sectors or 65535 directories.
    #[error("too much for an image")]
    TooLarge,
}

/// The image that cloud-init's NoCloud data source looks for: labelled `cidata`, with `user-data`, `meta-data` and perhaps
/// `network-config`.
///
/// The label is lower case, which ISO 9660 does not have, since every release of cloud-init knows that spelling.
///
/// # Errors
/// As [`image`].
pub fn nocloud(files: &[(&str, &[u8])]) -> Result<Vec<u8>, IsoError> {
    image("cidata", files)
}

/// The image that cloud-init's ConfigDrive data source looks for: labelled `config-2`, with these files below `openstack/latest`.
///
/// # Errors
/// As [`image`].
pub fn config_drive(files: &[(&str, &[u8])]) -> Result<Vec<u8>, IsoError> {
    image("config-2", files)
}

/// An image labelled `volume_id` with `files`, each a path from the root such as `openstack/latest/user_data` and its
/// bytes. Directories are made as the paths need them.
///
/// All belong to root; files have mode 0600 and directories 0700, because seeds hold private keys. The order of `files`
/// makes no difference.
///
/// A path has at most 240 bytes and 8 components; a component has 1 to 64 ASCII letters, digits, `.`, `_` or `-`, and
/// its last is no dot.
///
/// # Errors
/// [`IsoError::Volume`]; [`IsoError::File`] for a path of another form, for one that is there twice or also is a
/// directory, and for a file of 4 GiB or more; [`IsoError::TooLarge`].
pub fn image(volume_id: &str, files: &[(&str, &[u8])]) -> Result<Vec<u8>, IsoError> {
    if volume_id.len() > 16 || !names::portable(volume_id) {
        return Err(IsoError::Volume(volume_id.to_owned()));
    }
    let tree = Tree::new(files)?;
    let mut primary = Hierarchy::primary(&tree);
    let mut joliet = Hierarchy::joliet(&tree);

    // Every structure's length is known before its place is: directories first, the large part last.
    let mut next = SYSTEM_AREA + DESCRIPTORS;
    let primary_tables = place_tables(&primary, &mut next)?;
    let joliet_tables = place_tables(&joliet, &mut next)?;
    primary.place(&mut next)?;
    joliet.place(&mut next)?;
    let mut contents = Vec::with_capacity(tree.files.len());
    for (_, data) in &tree.files {
        // An empty file has a sector, too: so its place is its own, and in the volume even when it comes last.
        contents.push(place(data.len(), data.len().max(1), &mut next)?);
    }

    let size = usize::try_from(next).map_err(|_| IsoError::TooLarge)?;
    let size = size.checked_mul(SECTOR).ok_or(IsoError::TooLarge)?;
    let mut out = Vec::with_capacity(size);
    out.resize(SYSTEM_AREA as usize * SECTOR, 0);
    out.extend(volume::primary(
        volume_id,
        next,
        primary.root(),
        primary_tables,
    ));
    out.extend(volume::joliet(
        volume_id,
        next,
        joliet.root(),
        joliet_tables,
    ));
    out.extend(volume::terminator());
    for hierarchy in [&primary, &joliet] {
        append(
            &mut out,
            &hierarchy.path_table(u32::to_le_bytes, u16::to_le_bytes),
        );
        append(
            &mut out,
            &hierarchy.path_table(u32::to_be_bytes, u16::to_be_bytes),
        );
    }
    for hierarchy in [&primary, &joliet] {
        for directory in hierarchy.directories(&contents) {
            append(&mut out, &directory);
        }
    }
    for (_, data) in &tree.files {
        append(&mut out, data);
        if data.is_empty() {
            out.resize(out.len() + SECTOR, 0);
        }
    }
    debug_assert_eq!(out.len(), size);
    Ok(out)
}

/// Gives the next sectors to something `length` bytes long that takes the room of `room` bytes.
fn place(length: usize, room: usize, next: &mut u32) -> Result<Extent, IsoError> {
    let sectors = u32::try_from(room.div_ceil(SECTOR)).map_err(|_| IsoError::TooLarge)?;
    let extent = Extent {
        sector: *next,
        length: u32::try_from(length).map_err(|_| IsoError::TooLarge)?,
    };
    *next = next.checked_add(sectors).ok_or(IsoError::TooLarge)?;
    Ok(extent)
}

/// Where the two copies of a path table are: little-endian, then big-endian.
fn place_tables(hierarchy: &Hierarchy<'_>, next: &mut u32) -> Result<[Extent; 2], IsoError> {
    let length = hierarchy.path_table_len();
    Ok([place(length, length, next)?, place(length, length, next)?])
}

/// Appends `data` and fills its last sector up.
fn append(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(SECTOR), 0);
}

/// A number in both byte orders, little-endian first, as most of ISO 9660's are (ECMA-119 section 7.3.3).
fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// The same for 16 bits (ECMA-119 section 7.2.3).
fn both16(value: u16) -> [u8; 4] {
    let [low, high] = value.to_le_bytes();
    [low, high, high, low]
}
