//! Which lines are wanted.

use std::ops::RangeInclusive;

use regex::bytes::Regex;

use super::entry::{Entry, SEVERITIES};

/// What a line has to be like. Nothing asked for: every line.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Not earlier: microseconds since 1970.
    pub since: Option<i64>,
    /// Not later: microseconds since 1970.
    pub until: Option<i64>,
    /// Of one of these machines.
    pub nodes: Vec<Glob>,
    /// Of one of these programs.
    pub services: Vec<Glob>,
    /// As grave as that.
    pub severity: Option<Severities>,
    /// What is said.
    pub pattern: Option<Regex>,
    /// Lines that say something else.
    pub invert: bool,
}

impl Filter {
    /// Whether a line is wanted.
    #[must_use]
    pub fn wants(&self, entry: &Entry<'_>) -> bool {
        let one_of = |globs: &[Glob], text| globs.is_empty() || globs.iter().any(|g| g.fits(text));
        one_of(&self.nodes, entry.node())
            && one_of(&self.services, entry.service())
            && self
                .severity
                .as_ref()
                .is_none_or(|severities| severities.0.contains(&entry.severity()))
            && self.in_time(entry)
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(entry.message()) != self.invert)
    }

    /// A line whose time cannot be read is of no time that was asked for.
    fn in_time(&self, entry: &Entry<'_>) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        entry.time().is_some_and(|time| {
            self.since.is_none_or(|since| since <= time)
                && self.until.is_none_or(|until| time <= until)
        })
    }
}

/// Severities, 0 being the worst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Severities(RangeInclusive<u8>);

impl std::str::FromStr for Severities {
    type Err = String;

    /// As `journalctl --priority` reads them: `err` is err and what is worse, `err..notice` a range; numbers will do.
    fn from_str(text: &str) -> Result<Self, String> {
        let one = |word: &str| {
            let word = word.trim().to_ascii_lowercase();
            let known = SEVERITIES.iter().position(|known| *known == word);
            known
                .and_then(|place| u8::try_from(place).ok())
                .or_else(|| word.parse().ok().filter(|number| *number < 8))
                .ok_or_else(|| {
                    format!(
                        "{word:?} is no severity; they are {}",
                        SEVERITIES.join(", ")
                    )
                })
        };
        match text.split_once("..") {
            Some((from, to)) => {
                let (from, to) = (one(from)?, one(to)?);
                Ok(Self(from.min(to)..=from.max(to)))
            }
            None => Ok(Self(0..=one(text)?)),
        }
    }
}

/// A name in which `*` stands for anything and `?` for one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<u8>);

impl std::str::FromStr for Glob {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.as_bytes().to_vec()))
    }
}

impl Glob {
    /// Whether a name is meant.
    #[must_use]
    pub fn fits(&self, name: &[u8]) -> bool {
        let glob = self.0.as_slice();
        let (mut at, mut place) = (0, 0);
        // Where to go on when what follows the last star does not fit: the star takes one character more.
        let mut retry = None;
        while at < name.len() {
            match glob.get(place) {
                Some(b'*') => {
                    retry = Some((at, place));
                    place += 1;
                }
                Some(byte) if *byte == b'?' || *byte == name[at] => {
                    (at, place) = (at + 1, place + 1);
                }
                _ => match &mut retry {
                    Some((from, star)) => {
                        *from += 1;
                        (at, place) = (*from, *star + 1);
                    }
                    None => return false,
                },
            }
        }
        glob[place..].iter().all(|byte| *byte == b'*')
    }

    /// Whether it stands for one name alone.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.0.iter().any(|byte| matches!(byte, b'*' | b'?'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_fit_names() {
        for (glob, name, fits) in [
            ("nginx", "nginx", true),
            ("nginx", "nginx2", false),
            ("rolesmith-*", "rolesmith-perf", true),
            ("*", "", true),
            ("", "", true),
            ("?", "", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b?c", "axxbxc", true),
            ("a*b?c", "axxbc", false),
            ("*sql", "postgresql", true),
        ] {
            let glob: Glob = glob.parse().unwrap();
            assert_eq!(glob.fits(name.as_bytes()), fits, "{glob:?} {name}");
        }
    }

    #[test]
    fn severities_are_read_as_journalctl_reads_them() {
        for (text, range) in [
            ("err", 0..=3),
            ("3", 0..=3),
            ("debug", 0..=7),
            ("err..warning", 3..=4),
            ("warning..err", 3..=4),
            ("0..2", 0..=2),
        ] {
            assert_eq!(text.parse(), Ok(Severities(range)), "{text}");
        }
        assert!("8".parse::<Severities>().is_err());
        let said = "error".parse::<Severities>().unwrap_err();
        assert!(said.contains("emerg, alert"), "{said}");
    }

    proptest! {
        #[test]
        fn globs_are_regular_expressions_of_a_kind(glob in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            let plain = regex::escape(&glob).replace("\\*", ".*").replace("\\?", ".");
            let expected = regex::Regex::new(&format!("^{plain}$")).unwrap().is_match(&name);
            prop_assert_eq!(glob.parse::<Glob>().unwrap().fits(name.as_bytes()), expected);
        }
    }
}
