//! What a file is called in each of the hierarchies.

use std::collections::BTreeSet;

/// Characters of a name and its extension together (ECMA-119 section 7.5.1, interchange level 2); a directory could have
/// one more.
const PRIMARY_CHARACTERS: usize = 30;
/// Characters kept of an extension.
const PRIMARY_EXTENSION: usize = 8;
/// Joliet's 128 bytes.
const JOLIET_CHARACTERS: usize = 64;

/// What both hierarchies order a directory by: names, then extensions (ECMA-119 section 9.3). The standard pads the
/// shorter with spaces, which is what comparing them as slices does, since they have no character below a space.
pub(super) type Key = (String, String);

/// The portable characters of POSIX (3.265 Portable Filename Character Set), and at least one of them.
pub(super) fn portable(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether both hierarchies can hold the name. Linux and Windows cut dots off the end of Joliet's names; the rule also
/// keeps `.` and `..` out.
pub(super) fn valid(name: &str) -> bool {
    name.len() <= JOLIET_CHARACTERS && portable(name) && !name.ends_with('.')
}

fn split(name: &str, directory: bool) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !directory && !stem.is_empty() => (stem, extension),
        _ => (name, ""),
    }
}

/// The name in the primary hierarchy: upper case, digits and underscores, cut, and numbered where that makes one that is
/// `taken`. Nobody sees it who reads Rock Ridge or Joliet.
pub(super) fn primary(name: &str, directory: bool, taken: &mut BTreeSet<Key>) -> Key {
    let plain = |text: &str| -> String {
        text.chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect()
    };
    let (stem, extension) = split(name, directory);
    let (mut stem, mut extension) = (plain(stem), plain(extension));
    extension.truncate(PRIMARY_EXTENSION);
    let room = PRIMARY_CHARACTERS - extension.len();
    stem.truncate(room);
    let mut key = (stem.clone(), extension.clone());
    let mut number = 0_u32;
    while !taken.insert(key.clone()) {
        number += 1;
        let suffix = number.to_string();
        let mut numbered = stem.clone();
        numbered.truncate(room - suffix.len());
        key = (numbered + &suffix, extension.clone());
    }
    key
}

/// How the primary hierarchy writes a key.
pub(super) fn primary_identifier((stem, extension): &Key, directory: bool) -> Vec<u8> {
    if directory {
        stem.as_bytes().to_vec()
    } else {
        format!("{stem}.{extension};1").into_bytes()
    }
}

/// The name in Joliet's hierarchy: itself.
pub(super) fn joliet(name: &str, directory: bool) -> Key {
    let (stem, extension) = split(name, directory);
    (stem.to_owned(), extension.to_owned())
}

/// How Joliet's hierarchy writes `name`: without the version `;1` that the standard has, like genisoimage and xorriso, since
/// not every reader takes it off (isoinfo does not).
pub(super) fn joliet_identifier(name: &str) -> Vec<u8> {
    ucs2(name).collect()
}

/// UCS-2, big-endian; of ASCII.
pub(super) fn ucs2(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.encode_utf16().flat_map(u16::to_be_bytes)
}
