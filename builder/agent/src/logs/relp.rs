//! The client's half of RELP, as far as it takes to send lines: <https://www.rsyslog.com/doc/relp.html>.
//!
//! A frame is `TXNR SP COMMAND SP DATALEN [SP DATA] LF`; what the server confirms carries the number of what it confirms.

use std::io::{self, BufRead, Read as _};

/// What a session begins with.
pub const OFFER: &[u8] = b"relp_version=0\nrelp_software=rolesmith-agent\ncommands=syslog";
/// Numbers go up to here and begin again at 1.
const LAST_NUMBER: u32 = 999_999_999;
/// More than any answer has.
const LONGEST_ANSWER: usize = 4096;

/// The number after this one.
#[must_use]
pub const fn next(number: u32) -> u32 {
    if number >= LAST_NUMBER { 1 } else { number + 1 }
}

/// A frame.
#[must_use]
pub fn frame(number: u32, command: &str, data: &[u8]) -> Vec<u8> {
    let mut frame = format!("{number} {command} {}", data.len()).into_bytes();
    if !data.is_empty() {
        frame.push(b' ');
        frame.extend_from_slice(data);
    }
    frame.push(b'\n');
    frame
}

/// Reads the answer to `number`; anything but its confirmation is an error.
///
/// # Errors
/// What reading gives; `UnexpectedEof` where the server closed; `InvalidData` where it says no, or something else.
pub fn confirmed(input: &mut impl BufRead, number: u32) -> io::Result<()> {
    let wrong = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let answered = word(input)?;
    let command = word(input)?;
    if command == "serverclose" {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server is closing",
        ));
    }
    if command != "rsp" || answered.parse() != Ok(number) {
        return wrong(format!(
            "the answer to {number} is {command:?} to {answered:?}"
        ));
    }
    let length: usize = match word(input)?.parse() {
        Ok(length) if (3..=LONGEST_ANSWER).contains(&length) => length,
        _ => return wrong("an answer of no sensible length".to_owned()),
    };
    let mut data = vec![0; length + 1];
    input.read_exact(&mut data)?;
    if data.starts_with(b"200") && data.ends_with(b"\n") {
        return Ok(());
    }
    wrong(format!(
        "the server refused: {}",
        String::from_utf8_lossy(&data).trim_end()
    ))
}

/// Up to the next blank or end of line.
fn word(input: &mut impl BufRead) -> io::Result<String> {
    let mut word = String::new();
    for byte in input.take(32).bytes() {
        match byte? {
            b' ' | b'\n' => return Ok(word),
            byte => word.push(char::from(byte)),
        }
    }
    Err(io::Error::new(
        if word.is_empty() {
            io::ErrorKind::UnexpectedEof
        } else {
            io::ErrorKind::InvalidData
        },
        "the server ended the session",
    ))
}
