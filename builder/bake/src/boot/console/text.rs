//! What lines of a console mean. Pure.

use super::Mark;

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// The machine got this far.
    Mark(Mark),
    /// The machine waits for a person, or has stopped for good.
    Hopeless,
}

/// Lines after which nothing more is to be expected: the kernel, initramfs-tools, systemd, GRUB and firmware say so.
const HOPELESS: [&str; 9] = [
    "Kernel panic - not syncing",
    "(initramfs)",
    "You are in emergency mode",
    "Press Enter for maintenance",
    "grub rescue>",
    "grub>",
    "No bootable device",
    "BdsDxe: No bootable option or device was found",
    "UEFI Interactive Shell",
];

impl Sign {
    /// What this line says, if anything.
    pub(super) fn of(line: &str) -> Option<Sign> {
        if line.contains("] Linux version ") {
            return Some(Sign::Mark(Mark::Kernel));
        }
        // cloudinit/config/cc_final_message.py, FINAL_MESSAGE_DEF.
        if line.contains("Cloud-init v. ") && line.contains(" finished at ") {
            return Some(Sign::Mark(Mark::CloudInit));
        }
        // The agent's joined.rs, as systemd-journald writes it there.
        if line.contains(" rolesmith[") && line.contains(" has joined ") {
            return Some(Sign::Mark(Mark::Joined));
        }
        let hopeless = HOPELESS.iter().any(|words| line.contains(words));
        hopeless.then_some(Sign::Hopeless)
    }
}

/// A line without what moves a terminal's cursor or colours its text (ECMA-48: control sequences, and the control functions of
/// the set C0), so that it may be shown on somebody else's terminal.
pub(super) fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                // CSI: parameters and intermediates, ended by a byte of 0x40 to 0x7e.
                Some('[') => while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // Strings such as a window's title, ended by BEL or ST.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(c) = characters.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && characters.next_if_eq(&'\\').is_some())
                        {
                            break;
                        }
                    }
                }
                // Two-byte functions, intermediates of designations included.
                Some(' '..='/') => {
                    characters.next();
                }
                _ => {}
            },
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.truncate(out.trim_end().len());
    out
}
