//! Directories and path tables (ECMA-119 sections 9.1 and 9.4), with Rock Ridge in the primary hierarchy.

use std::collections::BTreeSet;

use super::{
    IsoError, SECTOR, both16, both32, names, place,
    tree::{Target, Tree},
};

/// 1970-01-01 00:00:00 UTC: years since 1900, month, day, time and offset (ECMA-119 section 9.1.5).
const DATE: [u8; 7] = [70, 1, 1, 0, 0, 0, 0];
/// The file flag of a directory.
const DIRECTORY: u8 = 2;
/// SUSP's own mark, which also says that nothing is to be skipped before the fields of each record.
const SP: [u8; 7] = [b'S', b'P', 7, 1, 0xbe, 0xef, 0];
/// Names the extension by the identifier that RRIP 1.10 has; its description and source may be empty.
const ER: &[u8; 18] = b"ER\x12\x01\x0a\0\0\x01RRIP_1991A";
const FILE_MODE: u32 = 0o100_600;
const DIRECTORY_MODE: u32 = 0o040_700;

/// Where something is: first sector and length in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extent {
    pub(super) sector: u32,
    pub(super) length: u32,
}

struct Entry<'a> {
    /// Rock Ridge's name.
    name: &'a str,
    identifier: Vec<u8>,
    target: Target,
}

/// One of the two views of a tree.
pub(super) struct Hierarchy<'a> {
    tree: &'a Tree<'a>,
    rock_ridge: bool,
    /// By the tree's index of the directory, each in the standard's order.
    entries: Vec<Vec<Entry<'a>>>,
    /// The tree's indexes in the order of the path table (ECMA-119 section 6.9.1), each with its identifier.
    order: Vec<(usize, Vec<u8>)>,
    /// By the tree's index of the directory.
    extents: Vec<Extent>,
}

impl<'a> Hierarchy<'a> {
    /// The hierarchy that the standard has, with Rock Ridge.
    pub(super) fn primary(tree: &'a Tree<'a>) -> Self {
        let mut taken = BTreeSet::new();
        let mut of = None;
        Self::new(tree, true, |directory, name, is_directory| {
            if of.replace(directory) != Some(directory) {
                taken.clear();
            }
            let key = names::primary(name, is_directory, &mut taken);
            let identifier = names::primary_identifier(&key, is_directory);
            (key, identifier)
        })
    }

    /// Joliet's hierarchy.
    pub(super) fn joliet(tree: &'a Tree<'a>) -> Self {
        Self::new(tree, false, |_, name, is_directory| {
            let identifier = names::joliet_identifier(name);
            (names::joliet(name, is_directory), identifier)
        })
    }

    fn new(
        tree: &'a Tree<'a>,
        rock_ridge: bool,
        mut name_it: impl FnMut(usize, &str, bool) -> (names::Key, Vec<u8>),
    ) -> Self {
        let mut entries = Vec::with_capacity(tree.directories.len());
        for (index, directory) in tree.directories.iter().enumerate() {
            let mut sorted: Vec<_> = directory
                .entries
                .iter()
                .map(|(&name, &target)| {
                    let is_directory = matches!(target, Target::Directory(_));
                    let (key, identifier) = name_it(index, name, is_directory);
                    let entry = Entry {
                        name,
                        identifier,
                        target,
                    };
                    (key, entry)
                })
                .collect();
            sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
            entries.push(
                sorted
                    .into_iter()
                    .map(|(_, entry)| entry)
                    .collect::<Vec<_>>(),
            );
        }
        // By level, then parent, then name: the order in which a breadth-first walk finds them.
        let mut order = vec![(0, vec![0])];
        let mut at = 0;
        while let Some(&(parent, _)) = order.get(at) {
            for entry in &entries[parent] {
                if let Target::Directory(index) = entry.target {
                    order.push((index, entry.identifier.clone()));
                }
            }
            at += 1;
        }
        Self {
            tree,
            rock_ridge,
            extents: vec![Extent::default(); entries.len()],
            entries,
            order,
        }
    }

    /// The place of the root directory.
    pub(super) fn root(&self) -> Extent {
        self.extents[0]
    }

    /// Gives each directory its place. Until then all are in sector 0, which changes no length.
    pub(super) fn place(&mut self, next: &mut u32) -> Result<(), IsoError> {
        let files = vec![Extent::default(); self.tree.files.len()];
        for at in 0..self.order.len() {
            let index = self.order[at].0;
            let length = self.directory(index, &files).len();
            self.extents[index] = place(length, length, next)?;
        }
        Ok(())
    }

    /// The directories' bytes, whole sectors, in the order of their places.
    pub(super) fn directories(&self, files: &[Extent]) -> impl Iterator<Item = Vec<u8>> {
        self.order
            .iter()
            .map(move |(index, _)| self.directory(*index, files))
    }

    fn directory(&self, index: usize, files: &[Extent]) -> Vec<u8> {
        let directory = &self.tree.directories[index];
        let parent = directory.parent;
        let mut own_fields = self.posix(DIRECTORY_MODE, directory.links());
        if index == 0 && self.rock_ridge {
            own_fields.splice(0..0, SP);
            own_fields.extend(ER);
        }
        let parent_fields = self.posix(DIRECTORY_MODE, self.tree.directories[parent].links());
        let mut out = record(self.extents[index], DIRECTORY, &[0], &own_fields);
        out.extend(record(
            self.extents[parent],
            DIRECTORY,
            &[1],
            &parent_fields,
        ));
        for entry in &self.entries[index] {
            let (extent, flags, mut fields) = match entry.target {
                Target::Directory(index) => {
                    let links = self.tree.directories[index].links();
                    (
                        self.extents[index],
                        DIRECTORY,
                        self.posix(DIRECTORY_MODE, links),
                    )
                }
                Target::File(index) => (files[index], 0, self.posix(FILE_MODE, 1)),
            };
            if self.rock_ridge {
                fields.extend(alternate_name(entry.name));
            }
            let record = record(extent, flags, &entry.identifier, &fields);
            // No record goes over the end of a sector.
            if out.len() % SECTOR + record.len() > SECTOR {
                out.resize(out.len().next_multiple_of(SECTOR), 0);
            }
            out.extend(record);
        }
        out.resize(out.len().next_multiple_of(SECTOR), 0);
        out
    }

    /// PX (RRIP section 4.1.1): mode, links, user and group; nothing for Joliet.
    fn posix(&self, mode: u32, links: u32) -> Vec<u8> {
        if !self.rock_ridge {
            return Vec::new();
        }
        let mut field = vec![b'P', b'X', 36, 1];
        field.extend([mode, links, 0, 0].into_iter().flat_map(both32));
        field
    }

    /// Bytes of the path table.
    pub(super) fn path_table_len(&self) -> usize {
        self.order
            .iter()
            .map(|(_, identifier)| 8 + identifier.len().next_multiple_of(2))
            .sum()
    }

    /// The path table, with numbers in the byte order of the two functions.
    pub(super) fn path_table(
        &self,
        long: fn(u32) -> [u8; 4],
        short: fn(u16) -> [u8; 2],
    ) -> Vec<u8> {
        let mut numbers = vec![0_u16; self.order.len()];
        for (number, (index, _)) in (1..).zip(&self.order) {
            numbers[*index] = number;
        }
        let mut out = Vec::with_capacity(self.path_table_len());
        for (index, identifier) in &self.order {
            out.extend([length_byte(identifier.len()), 0]);
            out.extend(long(self.extents[*index].sector));
            out.extend(short(numbers[self.tree.directories[*index].parent]));
            out.extend(identifier);
            out.resize(out.len().next_multiple_of(2), 0);
        }
        out
    }
}

/// NM (RRIP section 4.1.4), the whole name in one field.
fn alternate_name(name: &str) -> Vec<u8> {
    let mut field = vec![b'N', b'M', length_byte(5 + name.len()), 1, 0];
    field.extend(name.as_bytes());
    field
}

/// The record of the root in a volume descriptor, which has room for no fields of extensions.
pub(super) fn root_record(root: Extent) -> Vec<u8> {
    record(root, DIRECTORY, &[0], &[])
}

fn record(extent: Extent, flags: u8, identifier: &[u8], fields: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both32(extent.sector));
    out.extend(both32(extent.length));
    out.extend(DATE);
    // Not interleaved; in the first and only volume.
    out.extend([flags, 0, 0]);
    out.extend(both16(1));
    out.push(length_byte(identifier.len()));
    out.extend(identifier);
    out.resize(out.len().next_multiple_of(2), 0);
    out.extend(fields);
    out.resize(out.len().next_multiple_of(2), 0);
    out[0] = length_byte(out.len());
    out
}

/// At most 33 bytes of header, 128 of Joliet identifier or 33 of the primary and 36 + 69 of Rock Ridge.
fn length_byte(length: usize) -> u8 {
    u8::try_from(length).expect("names are at most 64 characters long")
}
