//! The cleartext signature framework (RFC 9580, section 7) and armored detached signatures.

use std::io;

use pgp::{
    armor::{self, BlockType},
    ser::Serialize,
};

use super::{OpenPgpError, Signer};

/// Signs text with every signer, in their order, into one message. During a rotation a client that has only one of the
/// keys accepts it.
///
/// White space at the end of lines is dropped and the text ends in exactly the newline before the signature, so that
/// the message shows what was signed; nothing stands before or after it, because apt refuses that.
///
/// # Errors
/// [`OpenPgpError::NoSigner`], [`OpenPgpError::CarriageReturn`], and what a signer returns.
pub fn clearsign(signers: &[&dyn Signer], text: &str, time: u64) -> Result<String, OpenPgpError> {
    assemble(text, |canonical| {
        concatenate(signers, |signer| signer.sign_text(canonical, time))
    })
}

/// Signs bytes with every signer, in their order, into one armored detached signature.
///
/// # Errors
/// [`OpenPgpError::NoSigner`], and what a signer returns.
pub fn sign_armored(
    signers: &[&dyn Signer],
    data: &[u8],
    time: u64,
) -> Result<String, OpenPgpError> {
    armor_signature(&concatenate(signers, |signer| {
        signer.sign_detached(data, time)
    })?)
}

fn concatenate(
    signers: &[&dyn Signer],
    sign: impl Fn(&dyn Signer) -> Result<Vec<u8>, OpenPgpError>,
) -> Result<Vec<u8>, OpenPgpError> {
    if signers.is_empty() {
        return Err(OpenPgpError::NoSigner);
    }
    let mut packets = Vec::new();
    for signer in signers {
        packets.extend(sign(*signer)?);
    }
    Ok(packets)
}

pub(super) fn assemble(
    text: &str,
    sign: impl FnOnce(&str) -> Result<Vec<u8>, OpenPgpError>,
) -> Result<String, OpenPgpError> {
    if text.contains('\r') {
        return Err(OpenPgpError::CarriageReturn);
    }
    let canonical = without_trailing_space(text.strip_suffix('\n').unwrap_or(text));
    let signature = armor_signature(&sign(&canonical)?)?;
    let mut message = String::with_capacity(canonical.len() + signature.len() + 128);
    message.push_str("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n");
    for line in canonical.split('\n') {
        // "From " is escaped by gpg only against mail programs; dashes must be.
        if line.starts_with('-') {
            message.push_str("- ");
        }
        message.push_str(line);
        message.push('\n');
    }
    message.push_str(&signature);
    Ok(message)
}

/// Readers drop this white space before they hash, so it must not be hashed here either.
fn without_trailing_space(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            clean.push('\n');
        }
        clean.push_str(line.trim_end_matches([' ', '\t']));
    }
    clean
}

pub(super) fn armor_signature(packets: &[u8]) -> Result<String, OpenPgpError> {
    armored(packets, BlockType::Signature)
}

pub(super) fn armored(packets: &[u8], block: BlockType) -> Result<String, OpenPgpError> {
    let mut out = Vec::with_capacity(packets.len() * 3 / 2 + 128);
    armor::write(&Packets(packets), block, &mut out, None, true)
        .map_err(OpenPgpError::format("armor"))?;
    let text = String::from_utf8(out).expect("armor is ASCII");
    Ok(text)
}

/// Packets that are serialised already.
struct Packets<'a>(&'a [u8]);

impl Serialize for Packets<'_> {
    fn to_writer<W: io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
        Ok(writer.write_all(self.0)?)
    }

    fn write_len(&self) -> usize {
        self.0.len()
    }
}
