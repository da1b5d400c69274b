//! A reader of images that forgives nothing: numbers differ by byte order, records cross sectors, path tables disagree
//! with directories - each is a panic.

use std::collections::BTreeMap;

const SECTOR: usize = 2048;

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(Vec<u8>),
}

pub(crate) struct Image {
    pub(crate) label: String,
    /// By the identifiers of ISO 9660.
    pub(crate) plain: BTreeMap<String, Node>,
    /// By the names of Rock Ridge.
    pub(crate) rock_ridge: BTreeMap<String, Node>,
    pub(crate) joliet: BTreeMap<String, Node>,
}

fn both32(bytes: &[u8]) -> usize {
    let value = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(value, u32::from_be_bytes(bytes[4..8].try_into().unwrap()));
    value as usize
}

fn both16(bytes: &[u8]) -> u16 {
    let value = u16::from_le_bytes(bytes[..2].try_into().unwrap());
    assert_eq!(value, u16::from_be_bytes(bytes[2..4].try_into().unwrap()));
    value
}

fn ucs2(bytes: &[u8]) -> String {
    assert_eq!(bytes.len() % 2, 0);
    let units: Vec<u16> = bytes
        .chunks(2)
        .map(|two| u16::from_be_bytes([two[0], two[1]]))
        .collect();
    String::from_utf16(&units).unwrap()
}

struct Record<'a> {
    sector: usize,
    length: usize,
    directory: bool,
    identifier: &'a [u8],
    fields: &'a [u8],
}

fn record(bytes: &[u8]) -> Record<'_> {
    let bytes = &bytes[..usize::from(bytes[0])];
    assert_eq!(bytes.len() % 2, 0);
    assert_eq!(bytes[18..25], [70, 1, 1, 0, 0, 0, 0], "1970-01-01");
    assert!(matches!(bytes[25], 0 | 2), "flags");
    assert_eq!(both16(&bytes[28..]), 1);
    let end = 33 + usize::from(bytes[32]);
    Record {
        sector: both32(&bytes[2..]),
        length: both32(&bytes[10..]),
        directory: bytes[25] == 2,
        identifier: &bytes[33..end],
        fields: &bytes[end.next_multiple_of(2)..],
    }
}

/// The fields of SUSP, whose signatures are here once each.
fn fields(mut bytes: &[u8]) -> BTreeMap<[u8; 2], &[u8]> {
    let mut found = BTreeMap::new();
    while bytes.len() >= 4 {
        let (field, rest) = bytes.split_at(usize::from(bytes[2]));
        assert_eq!(field[3], 1, "version");
        assert!(found.insert([field[0], field[1]], &field[4..]).is_none());
        bytes = rest;
    }
    assert!(bytes.len() < 2, "a padding byte at most");
    found
}

struct Walk<'a> {
    image: &'a [u8],
    joliet: bool,
    /// Identifiers, names, node; in the order found.
    found: Vec<(String, String, Node)>,
    /// Level, parent's sector, sector and identifier of each directory.
    directories: Vec<(usize, usize, usize, Vec<u8>)>,
    extents: Vec<(usize, usize)>,
}

impl<'a> Walk<'a> {
    fn directory(
        &mut self,
        at: [&str; 2],
        level: usize,
        own: &Record<'_>,
        parent: &Record<'_>,
    ) -> u32 {
        assert!(level <= 8);
        assert_eq!(own.length % SECTOR, 0);
        self.extents.push((own.sector, own.length));
        let image = self.image;
        let mut records = Vec::new();
        for sector in image[own.sector * SECTOR..][..own.length].chunks(SECTOR) {
            let mut bytes = sector;
            while bytes.first().is_some_and(|length| *length != 0) {
                records.push(record(bytes));
                bytes = &bytes[usize::from(bytes[0])..];
            }
            assert!(bytes.iter().all(|byte| *byte == 0), "a gap between records");
        }
        let (dot, dot_dot) = (&records[0], &records[1]);
        assert_eq!(
            (dot.identifier, dot.sector, dot.length),
            (&[0][..], own.sector, own.length)
        );
        assert_eq!(
            (dot_dot.identifier, dot_dot.sector, dot_dot.length),
            (&[1][..], parent.sector, parent.length)
        );
        let mut links = 2;
        let mut last = None;
        for record in &records[2..] {
            let identifier = if self.joliet {
                ucs2(record.identifier)
            } else {
                assert!(record.identifier.len() <= 33);
                String::from_utf8(record.identifier.to_vec()).unwrap()
            };
            let short = if record.directory || self.joliet {
                assert!(!identifier.contains(';'));
                identifier.as_str()
            } else {
                identifier.strip_suffix(";1").expect("a version")
            };
            let allowed = |c: char| {
                matches!(c, 'A'..='Z' | '0'..='9' | '_') || (!record.directory && c == '.')
            };
            assert!(self.joliet || short.chars().all(allowed), "{short}");
            let (stem, extension) = match short.rsplit_once('.') {
                Some((stem, extension)) if !record.directory && !stem.is_empty() => {
                    (stem, extension)
                }
                _ => (short, ""),
            };
            let key = Some((stem.to_owned(), extension.to_owned()));
            assert!(last < key, "{last:?} before {key:?}");
            last = key;
            let susp = fields(record.fields);
            let name = if self.joliet {
                assert!(susp.is_empty());
                short.to_owned()
            } else {
                let name = susp[b"NM"];
                assert_eq!(name[0], 0);
                String::from_utf8(name[1..].to_vec()).unwrap()
            };
            let paths = [at[0].to_owned() + short, at[1].to_owned() + &name];
            let expected = if record.directory {
                self.directories.push((
                    level,
                    own.sector,
                    record.sector,
                    record.identifier.to_vec(),
                ));
                self.found
                    .push((paths[0].clone(), paths[1].clone(), Node::Directory));
                let below = [paths[0].clone() + "/", paths[1].clone() + "/"];
                links += 1;
                [
                    0o040_700,
                    self.directory([&below[0], &below[1]], level + 1, record, own),
                ]
            } else {
                let data = image[record.sector * SECTOR..][..record.length].to_vec();
                self.extents.push((record.sector, record.length.max(1)));
                let [plain, name] = paths;
                self.found.push((plain, name, Node::File(data)));
                [0o100_600, 1]
            };
            if !self.joliet {
                assert_eq!(
                    posix(susp[b"PX"]),
                    [expected[0], expected[1], 0, 0],
                    "{name}"
                );
            }
        }
        if self.joliet {
            assert!(dot.fields.is_empty() && dot_dot.fields.is_empty());
        } else {
            let susp = fields(dot.fields);
            assert_eq!(posix(susp[b"PX"])[..2], [0o040_700, links]);
            assert_eq!(susp.contains_key(b"SP"), level == 1);
            assert_eq!(susp.contains_key(b"ER"), level == 1);
            assert!(fields(dot_dot.fields).contains_key(b"PX"));
        }
        links
    }
}

fn posix(field: &[u8]) -> [u32; 4] {
    [0, 8, 16, 24].map(|at| u32::try_from(both32(&field[at..])).unwrap())
}

/// Sector, parent's number and identifier of each directory.
fn path_table(
    bytes: &[u8],
    long: fn([u8; 4]) -> u32,
    short: fn([u8; 2]) -> u16,
) -> Vec<(usize, usize, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = usize::from(bytes[at]);
        assert_eq!(bytes[at + 1], 0);
        rows.push((
            long(bytes[at + 2..at + 6].try_into().unwrap()) as usize,
            usize::from(short(bytes[at + 6..at + 8].try_into().unwrap())),
            bytes[at + 8..at + 8 + length].to_vec(),
        ));
        at += 8 + length.next_multiple_of(2);
    }
    rows
}

/// Walks the hierarchy of a volume descriptor.
fn hierarchy<'a>(image: &'a [u8], descriptor: &[u8], joliet: bool) -> Walk<'a> {
    assert_eq!(both32(&descriptor[80..]) * SECTOR, image.len());
    assert_eq!(
        [both16(&descriptor[120..]), both16(&descriptor[124..])],
        [1, 1]
    );
    assert_eq!(usize::from(both16(&descriptor[128..])), SECTOR);
    assert_eq!(descriptor[881], 1);
    let mut walk = Walk {
        image,
        joliet,
        found: Vec::new(),
        directories: Vec::new(),
        extents: Vec::new(),
    };
    let root = record(&descriptor[156..]);
    assert_eq!(descriptor[156], 34);
    walk.directory(["", ""], 1, &root, &root);

    let table = |at: usize, number: fn([u8; 4]) -> u32| {
        let sector = number(descriptor[at..at + 4].try_into().unwrap()) as usize;
        &image[sector * SECTOR..][..both32(&descriptor[132..])]
    };
    let little = path_table(
        table(140, u32::from_le_bytes),
        u32::from_le_bytes,
        u16::from_le_bytes,
    );
    let big = path_table(
        table(148, u32::from_be_bytes),
        u32::from_be_bytes,
        u16::from_be_bytes,
    );
    assert_eq!(little, big);
    assert_eq!(little[0], (root.sector, 1, vec![0]));
    // By level, then the parent's number, then in the order of the directory: a stable sort of what the walk found.
    let number = |sector: usize| 1 + little.iter().position(|row| row.0 == sector).unwrap();
    walk.directories
        .sort_by_key(|(level, parent, ..)| (*level, number(*parent)));
    let expected: Vec<_> = walk
        .directories
        .iter()
        .map(|(_, parent, sector, identifier)| (*sector, number(*parent), identifier.clone()))
        .collect();
    assert_eq!(little[1..], expected);
    walk
}

/// Reads an image.
pub(crate) fn read(image: &[u8]) -> Image {
    assert_eq!(image.len() % SECTOR, 0);
    assert!(
        image[..16 * SECTOR].iter().all(|byte| *byte == 0),
        "the system area is not ours"
    );
    let descriptors: Vec<_> = image[16 * SECTOR..19 * SECTOR].chunks(SECTOR).collect();
    for (descriptor, kind) in descriptors.iter().zip([1, 2, 255]) {
        assert_eq!(descriptor[..7], [kind, b'C', b'D', b'0', b'0', b'1', 1]);
    }
    assert_eq!(descriptors[1][88..91], *b"%/E");
    let primary = hierarchy(image, descriptors[0], false);
    let joliet = hierarchy(image, descriptors[1], true);
    disjoint(&primary, &joliet);
    let label = String::from_utf8(descriptors[0][40..72].to_vec()).unwrap();
    let label = label.trim_end().to_owned();
    assert_eq!(ucs2(&descriptors[1][40..72]).trim_end(), label);
    let map = |walk: &Walk<'_>, plain: bool| -> BTreeMap<String, Node> {
        let map: BTreeMap<_, _> = walk
            .found
            .iter()
            .map(|(identifier, name, node)| {
                (if plain { identifier } else { name }.clone(), node.clone())
            })
            .collect();
        assert_eq!(map.len(), walk.found.len(), "a name is there twice");
        map
    };
    Image {
        label,
        plain: map(&primary, true),
        rock_ridge: map(&primary, false),
        joliet: map(&joliet, false),
    }
}

/// Nothing may lie over anything else; only files are in both hierarchies.
fn disjoint(primary: &Walk<'_>, joliet: &Walk<'_>) {
    let mut extents: Vec<_> = primary.extents.iter().chain(&joliet.extents).collect();
    extents.sort();
    extents.dedup();
    for two in extents.windows(2) {
        assert!(two[0].0 + two[0].1.div_ceil(SECTOR) <= two[1].0, "{two:?}");
    }
}
