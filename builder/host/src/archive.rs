//! The names of Debian's packages, as they were when `data/update.sh` ran, for
//! [`rolesmith_model::archive_names::ArchiveNames`].
//!
//! They are part of the program so that `check` needs neither a network nor Debian. Packages that came later are not
//! known; between point releases of a stable suite that is next to none.

use std::sync::OnceLock;

use rolesmith_model::ids::Suite;

const BOOKWORM: &[u8] = include_bytes!("../data/bookworm.names.zst");
const TRIXIE: &[u8] = include_bytes!("../data/trixie.names.zst");

/// The names of a suite's binary packages (main; amd64 and all), one a line, sorted; virtual ones with a leading `~`.
///
/// # Panics
/// Never: the lists are part of the program, and a test decodes them.
#[must_use]
pub fn names(suite: Suite) -> &'static str {
    static LISTS: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
    let (list, packed) = match suite {
        Suite::Bookworm => (&LISTS[0], BOOKWORM),
        Suite::Trixie => (&LISTS[1], TRIXIE),
    };
    list.get_or_init(|| unpack(packed).expect("the embedded lists are well formed"))
}

/// Undoes what `data/update.sh` does: zstd, and within it lines whose first character says how much is shared with the
/// line before. None when the bytes are something else.
fn unpack(packed: &[u8]) -> Option<String> {
    let coded = String::from_utf8(zstd::decode_all(packed).ok()?).ok()?;
    let mut names = String::with_capacity(coded.len() * 3);
    let mut before = 0;
    for line in coded.lines() {
        let (shared, rest) = line.split_at_checked(1)?;
        let shared = usize::from(shared.as_bytes()[0].checked_sub(b'!')?);
        let from = before..before + shared;
        // The line before ends where its line break stands.
        if shared > 0 && names.get(from.clone())?.contains('\n') {
            return None;
        }
        before = names.len();
        names.extend_from_within(from);
        names.push_str(rest);
        names.push('\n');
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use rolesmith_model::archive_names::ArchiveNames;

    use super::*;

    fn packed(coded: &str) -> Vec<u8> {
        zstd::encode_all(coded.as_bytes(), 1).expect("memory is enough")
    }

    #[test]
    fn lines_share_beginnings_with_the_line_before() {
        let coded = "!nginx\n&-common\n\"et\n!~a\n";
        assert_eq!(
            unpack(&packed(coded)).as_deref(),
            Some("nginx\nnginx-common\nnet\n~a\n")
        );
        for broken in ["\"x\n", "!a\n#b\n", "\n", "!ä\n\"b\n"] {
            assert_eq!(unpack(&packed(broken)), None, "{broken:?}");
        }
        assert_eq!(unpack(b"no zstd"), None);
    }

    #[test]
    fn the_suites_have_what_roles_need_and_tell_real_from_virtual() {
        for suite in Suite::ALL {
            let list = names(suite);
            let mut sorted: Vec<&str> = list.lines().collect();
            assert!(sorted.len() > 60_000);
            sorted.sort_unstable();
            sorted.dedup();
            assert!(list.lines().eq(sorted), "{suite} is not sorted");
            let names = ArchiveNames::parse(list);
            for real in [
                "nginx",
                "postgresql-common",
                "redis-server",
                "libstdc++6",
                "libreoffice-base",
            ] {
                assert!(names.has(real), "{real} in {suite}");
            }
            assert!(names.satisfies("mail-transport-agent") && !names.has("mail-transport-agent"));
            assert!(!names.satisfies("no-such-package-anywhere"));
        }
        // What tells the suites apart.
        let in_suite = |suite, name| ArchiveNames::parse(names(suite)).has(name);
        assert!(
            in_suite(Suite::Bookworm, "postgresql-15") && !in_suite(Suite::Trixie, "postgresql-15")
        );
        assert!(
            in_suite(Suite::Trixie, "postgresql-17") && !in_suite(Suite::Bookworm, "postgresql-17")
        );
    }
}
