//! The names of Debian's own packages, for the findings "there is no such package" and "that name is taken".
//!
//! The lists are data of the host crate; the pure stages get them as an argument.

use std::collections::BTreeSet;

/// Names of binary packages in a suite, virtual packages included.
#[derive(Debug, Clone, Default)]
pub struct ArchiveNames<'a> {
    real: BTreeSet<&'a str>,
    virtuals: BTreeSet<&'a str>,
}

impl<'a> ArchiveNames<'a> {
    /// Reads a list with one name a line; a leading `~` marks a virtual package (Policy 3.6).
    #[must_use]
    pub fn parse(list: &'a str) -> Self {
        let (mut real, mut virtuals) = (BTreeSet::new(), BTreeSet::new());
        for name in list.lines().filter(|line| !line.is_empty()) {
            match name.strip_prefix('~') {
                Some(name) => virtuals.insert(name),
                None => real.insert(name),
            };
        }
        Self { real, virtuals }
    }

    /// Whether the suite has a package of that name that is not virtual.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.real.contains(name)
    }

    /// Whether a dependency on that name can be satisfied.
    #[must_use]
    pub fn satisfies(&self, name: &str) -> bool {
        self.real.contains(name) || self.virtuals.contains(name)
    }

    /// Whether the list is empty, so that nothing can be concluded from it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.real.is_empty()
    }

    /// The name most like the one given, for "did you mean".
    #[must_use]
    pub fn similar(&self, name: &str) -> Option<&'a str> {
        closest(name, self.real.iter().copied())
    }
}

/// The candidate with the smallest edit distance to `name`, if it is near enough to be a slip of the finger.
pub fn closest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let limit = 1 + name.len() / 5;
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance over bytes.
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_real_and_virtual_names() {
        let names = ArchiveNames::parse("nginx\nredis-server\n~mail-transport-agent\n");
        assert!(names.has("nginx") && !names.has("mail-transport-agent"));
        assert!(names.satisfies("mail-transport-agent"));
        assert_eq!(names.similar("redis-sever"), Some("redis-server"));
        assert_eq!(names.similar("postgresql"), None);
    }
}
