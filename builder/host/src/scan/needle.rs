//! Which bytes of a secret to look for, and in which forms.

use std::collections::BTreeSet;

use base64::{
    Engine as _,
    engine::general_purpose::{GeneralPurpose, STANDARD, URL_SAFE},
};

use super::Form;
use crate::ca::{decode_pem, hex};

/// Base64 is looked for in windows of that many characters, 120 bits each: of a line-wrapped text at least one lies
/// within a line.
const WINDOW: usize = 20;
/// Distance between windows.
const STEP: usize = 8;
/// Shortest piece of an armored key's text that is looked for as such, in characters: 72 bits.
const PIECE: usize = 12;
/// Octets at the end of a secret key that are taken when its inner structure is not known: half an RSA-1024 prime.
const TAIL: usize = 64;

/// The parts of a value that are secret. Keys hold public parts too, which travel in certificates: those are left out.
pub(super) fn secret_parts(value: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(value);
    let octets = if let Some(der) = decode_pem(&text, "PRIVATE KEY") {
        vec![private_part(&der)]
    } else if text.contains("-----BEGIN PGP PRIVATE KEY BLOCK-----") {
        openpgp_parts(&text)
    } else {
        Vec::new()
    };
    if octets.is_empty() {
        return vec![value.to_vec()];
    }
    // The text's own pieces too: cloud-init's write_files would carry the whole text in base64 once more.
    let pieces: Vec<_> = octets.iter().flat_map(|part| pieces(&text, part)).collect();
    [octets, pieces].concat()
}

/// The pieces of an armored key's lines that stand for nothing but the secret octets.
fn pieces(text: &str, part: &[u8]) -> Vec<Vec<u8>> {
    let secret: BTreeSet<Vec<u8>> = (0..3)
        .flat_map(|before| {
            let own = own_base64(&STANDARD, before, part);
            own.windows(PIECE).map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    let mut found = Vec::new();
    for line in text.lines().map(|line| line.trim().as_bytes()) {
        let hits: Vec<usize> = line
            .windows(PIECE)
            .enumerate()
            .filter(|(_, window)| secret.contains(*window))
            .map(|(at, _)| at)
            .collect();
        if let (Some(first), Some(last)) = (hits.first(), hits.last()) {
            found.push(line[*first..last + PIECE].to_vec());
        }
    }
    found
}

/// Of a private key in DER the octets that nobody else has.
fn private_part(der: &[u8]) -> Vec<u8> {
    // ECPrivateKey (RFC 5915): version 1, then an octet string of the curve's size; the public key stands behind it.
    for (marker, length) in [
        (&[0x02, 0x01, 0x01, 0x04, 0x20], 32),
        (&[0x02, 0x01, 0x01, 0x04, 0x30], 48),
    ] {
        let found = der
            .windows(marker.len())
            .position(|window| window == marker)
            .map(|at| at + marker.len());
        if let Some(scalar) = found.and_then(|at| der.get(at..at + length)) {
            return scalar.to_vec();
        }
    }
    // CurvePrivateKey (RFC 8410): the last 32 octets. RSA (RFC 8017, A.1.2): the coefficient, long after n and e.
    let tail = if der.len() < 2 * TAIL { 32 } else { TAIL };
    der[der.len().saturating_sub(tail)..].to_vec()
}

/// The ends of the secret packets in an armored OpenPGP key: within a packet the public material comes first (RFC 9580,
/// section 5.5.3).
fn openpgp_parts(text: &str) -> Vec<Vec<u8>> {
    let body: String = text
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.is_empty())
        .take_while(|line| !line.starts_with("-----END") && !line.starts_with('='))
        .collect();
    let Ok(bytes) = STANDARD.decode(body) else {
        return Vec::new();
    };
    let mut parts = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((tag, packet, after)) = packet(rest) {
        // A stub (the key itself is on a token, or left out by --export-secret-subkeys) ends with GnuPG's mark.
        let stub = packet.windows(4).any(|window| window == b"GNU\x01");
        // 32 octets of an ed25519 secret with its 2 of check sum; of longer keys a part.
        if matches!(tag, 5 | 7) && !stub && packet.len() > 34 {
            parts.push(packet[packet.len() - 34..].to_vec());
        }
        rest = after;
    }
    parts
}

/// Splits off the first packet: its tag, its body, what follows (RFC 9580, section 4.2). Partial lengths belong to data
/// packets, not to keys.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&header, rest) = bytes.split_first()?;
    let number = |octets: &[u8]| octets.iter().fold(0, |sum, &o| sum << 8 | usize::from(o));
    let (tag, length, rest) = if header & 0x40 == 0 {
        let octets = match header & 3 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return None,
        };
        let (length, rest) = rest.split_at_checked(octets)?;
        ((header >> 2) & 0x0f, number(length), rest)
    } else {
        let tag = header & 0x3f;
        match *rest.first()? {
            first @ 0..=191 => (tag, usize::from(first), &rest[1..]),
            first @ 192..=223 => {
                let second = usize::from(*rest.get(1)?);
                let length = ((usize::from(first) - 192) << 8) + second + 192;
                (tag, length, &rest[2..])
            }
            255 => {
                let (length, rest) = rest[1..].split_at_checked(4)?;
                (tag, number(length), rest)
            }
            _ => return None,
        }
    };
    let (body, after) = rest.split_at_checked(length)?;
    Some((tag, body, after))
}

/// Every pattern that gives a needle away. The order is that of [`Form`]; none occurs twice.
pub(super) fn forms(needle: &[u8]) -> BTreeSet<(Form, Vec<u8>)> {
    let mut forms = BTreeSet::from([(Form::Plain, needle.to_vec())]);
    let digits = hex(needle);
    forms.insert((Form::Hex, digits.to_uppercase().into_bytes()));
    forms.insert((Form::Hex, digits.into_bytes()));
    for before in 0..3 {
        for engine in [&STANDARD, &URL_SAFE] {
            let own = own_base64(engine, before, needle);
            if own.len() <= WINDOW {
                forms.insert((Form::Base64, own));
                continue;
            }
            for window in own.windows(WINDOW).step_by(STEP) {
                forms.insert((Form::Base64, window.to_vec()));
            }
        }
    }
    forms
}

/// The characters of base64 that depend on the needle alone when it stands `before` octets after a group's begin: the
/// first ones also depend on the octets before, the last group on those behind.
fn own_base64(engine: &GeneralPurpose, before: usize, needle: &[u8]) -> Vec<u8> {
    let text = engine.encode([&[0; 2][..before], needle].concat());
    let first = [0, 2, 3][before];
    let last = (before + needle.len()) * 8 / 6;
    text.as_bytes()[first..last].to_vec()
}
