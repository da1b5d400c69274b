//! The names of Debian's own packages, for the findings "there is no such package" and "that name is taken".
//!
//! The lists are data of the host crate; the pure stages get them as an argument.

use std::cmp::Ordering;

/// Names of binary packages in a suite, virtual packages included.
///
/// The list is searched as it stands: it has tens of thousands of lines, and most commands look up a few dozen.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchiveNames<'a> {
    list: &'a str,
}

impl<'a> ArchiveNames<'a> {
    /// Takes a list with one name a line, sorted by bytes; a leading `~` marks a virtual package (Policy 3.6).
    #[must_use]
    pub const fn parse(list: &'a str) -> Self {
        Self { list }
    }

    fn contains(&self, virtual_mark: &str, name: &str) -> bool {
        if name.is_empty() || name.contains('\n') {
            return false;
        }
        let order = |line: &str| match line.strip_prefix(virtual_mark) {
            Some(rest) => rest.cmp(name),
            // Without a mark every line begins with it; with one, `~` sorts behind everything else.
            None => Ordering::Less,
        };
        let bytes = self.list.as_bytes();
        let (mut low, mut high) = (0, bytes.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let begin = bytes[low..middle]
                .iter()
                .rposition(|b| *b == b'\n')
                .map_or(low, |at| low + at + 1);
            let end = bytes[middle..high]
                .iter()
                .position(|b| *b == b'\n')
                .map_or(high, |at| middle + at);
            match order(&self.list[begin..end]) {
                Ordering::Equal => return true,
                Ordering::Less => low = end + 1,
                Ordering::Greater => high = begin,
            }
        }
        false
    }

    /// Whether the suite has a package of that name that is not virtual.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        !name.starts_with('~') && self.contains("", name)
    }

    /// Whether a dependency on that name can be satisfied.
    #[must_use]
    pub fn satisfies(&self, name: &str) -> bool {
        self.has(name) || self.contains("~", name)
    }

    /// Whether the list is empty, so that nothing can be concluded from it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The name most like the one given, for "did you mean".
    #[must_use]
    pub fn similar(&self, name: &str) -> Option<&'a str> {
        closest(
            name,
            self.list.lines().filter(|line| !line.starts_with('~')),
        )
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

/// Edit distance over bytes in which two neighbours that changed places count once, as fingers do.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
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
        assert!(
            !names.has("")
                && !names.has("nginx\nredis-server")
                && !names.has("~mail-transport-agent")
        );
        assert!(!names.satisfies("~mail-transport-agent"));
        assert!(ArchiveNames::default().is_empty() && !ArchiveNames::default().has("nginx"));
    }

    #[test]
    fn every_name_is_found_and_nothing_between_them() {
        let all: Vec<String> = (0..200).map(|n| format!("lib{n:03}")).collect();
        let list = format!("{}\n~virtual-a\n~virtual-b\n", all.join("\n"));
        let names = ArchiveNames::parse(&list);
        for name in &all {
            assert!(names.has(name) && names.satisfies(name), "{name}");
            assert!(
                !names.has(&format!("{name}x")) && !names.has(&name[..5]),
                "{name}"
            );
        }
        assert!(names.satisfies("virtual-a") && names.satisfies("virtual-b"));
        assert!(!names.has("virtual-a") && !names.satisfies("virtual"));
    }

    #[test]
    fn neighbours_that_changed_places_count_once() {
        assert_eq!(distance("ngnix", "nginx"), 1);
        assert_eq!(distance("egde", "edge"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(
            closest("ngnix", ["afnix", "nginx"].into_iter()),
            Some("nginx")
        );
    }
}
