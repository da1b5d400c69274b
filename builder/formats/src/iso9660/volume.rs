//! Volume descriptors (ECMA-119 sections 8.3 to 8.5).

use super::{
    SECTOR, both16, both32, names,
    records::{self, Extent},
};

const PRIMARY: u8 = 1;
const SUPPLEMENTARY: u8 = 2;
const TERMINATOR: u8 = 255;
/// UCS-2 level 3, as Joliet announces it.
const JOLIET_ESCAPE: &[u8; 3] = b"%/E";

/// The descriptor of the primary hierarchy of a volume of so many `sectors`; `tables` are its path tables, little-endian
/// first.
pub(super) fn primary(label: &str, sectors: u32, root: Extent, tables: [Extent; 2]) -> Vec<u8> {
    let text = |text: &str, length: usize| format!("{text:<length$}").into_bytes();
    descriptor(PRIMARY, &[], sectors, root, tables, label, text)
}

/// The same for Joliet's.
pub(super) fn joliet(label: &str, sectors: u32, root: Extent, tables: [Extent; 2]) -> Vec<u8> {
    let text = |text: &str, length: usize| {
        let mut bytes: Vec<u8> = names::ucs2(&format!("{text:<0$}", length / 2)).collect();
        // 37 bytes are 18 characters and one that is not used.
        bytes.resize(length, 0);
        bytes
    };
    descriptor(
        SUPPLEMENTARY,
        JOLIET_ESCAPE,
        sectors,
        root,
        tables,
        label,
        text,
    )
}

/// What ends the list of descriptors.
pub(super) fn terminator() -> Vec<u8> {
    let mut out = header(TERMINATOR);
    out.resize(SECTOR, 0);
    out
}

fn header(kind: u8) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(b"CD001");
    out.push(1);
    out
}

fn descriptor(
    kind: u8,
    escape: &[u8],
    sectors: u32,
    root: Extent,
    [little, big]: [Extent; 2],
    label: &str,
    text: impl Fn(&str, usize) -> Vec<u8>,
) -> Vec<u8> {
    let mut out = header(kind);
    out.push(0);
    // System identifier, and the label.
    out.extend(text("", 32));
    out.extend(text(label, 32));
    out.extend([0; 8]);
    out.extend(both32(sectors));
    out.extend(escape);
    out.resize(120, 0);
    // One volume in the set, this one, in blocks of a sector.
    out.extend(both16(1));
    out.extend(both16(1));
    out.extend(both16(2048));
    out.extend(both32(little.length));
    // The optional second copies of the tables do not exist.
    out.extend(little.sector.to_le_bytes());
    out.extend([0; 4]);
    out.extend(big.sector.to_be_bytes());
    out.extend([0; 4]);
    out.extend(records::root_record(root));
    // Volume set, publisher, preparer, application; files with copyright, abstract and bibliography.
    for length in [128, 128, 128, 128, 37, 37, 37] {
        out.extend(text("", length));
    }
    // Created, modified, expires, effective: not specified (section 8.4.26.1).
    for _ in 0..4 {
        out.extend(b"0000000000000000\0");
    }
    out.push(1);
    out.resize(SECTOR, 0);
    out
}
