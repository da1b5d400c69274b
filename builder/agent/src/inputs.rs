//! What becomes of a file of scope "node" on its way to its place: placeholders and owners. Pure.

use std::collections::{BTreeMap, BTreeSet};

use rolesmith_model::facts::{ADDRESS_PLACEHOLDER, KEY_FILE, placeholder};

/// Something that a file needs and that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// A secret of the fleet.
    #[error("the secret {0:?} is not on this machine; `rolesmith enroll --secrets` brings it")]
    Secret(String),
    /// The private address.
    #[error("the private interface {0} has no IPv4 address yet")]
    Address(String),
    /// A user or group.
    #[error("there is no user or group {0:?} on this machine")]
    Owner(String),
    /// The file itself.
    #[error("the facts package does not hold its content ({0})")]
    Content(String),
    /// The node's key.
    #[error("{KEY_FILE}: {0}")]
    Key(String),
    /// A path that leads out of the role's directory.
    #[error("its path leads out of the role's directory")]
    Path,
}

impl Missing {
    /// Whether it may come without anybody doing something about this role.
    #[must_use]
    pub const fn may_come(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::Address(_))
    }
}

/// Puts secrets and the private address in the place of their placeholders.
///
/// Only the secrets that the facts name for that file are replaced, so that a file cannot draw in what it was not given.
/// One pass over the template: what a secret contains is never taken for a placeholder.
///
/// # Errors
/// [`Missing::Secret`] or [`Missing::Address`].
pub fn fill(
    template: &[u8],
    wanted: &[String],
    secrets: &BTreeMap<String, Vec<u8>>,
    address: Option<&str>,
    interface: &str,
) -> Result<Vec<u8>, Missing> {
    let mut values: Vec<(Vec<u8>, &[u8])> = Vec::new();
    for name in wanted.iter().collect::<BTreeSet<_>>() {
        let value = secrets
            .get(name)
            .ok_or_else(|| Missing::Secret(name.clone()))?;
        values.push((placeholder(name).into_bytes(), value));
    }
    let has_address = find(template, ADDRESS_PLACEHOLDER.as_bytes()).is_some();
    match address {
        Some(address) => values.push((ADDRESS_PLACEHOLDER.as_bytes().to_vec(), address.as_bytes())),
        None if has_address => return Err(Missing::Address(interface.to_owned())),
        None => {}
    }
    let mut filled = Vec::with_capacity(template.len());
    let mut rest = template;
    loop {
        let next = values
            .iter()
            .filter_map(|(key, value)| find(rest, key).map(|at| (at, key.len(), *value)))
            .min_by_key(|(at, ..)| *at);
        let Some((at, length, value)) = next else {
            break;
        };
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(value);
        rest = &rest[at + length..];
    }
    filled.extend_from_slice(rest);
    Ok(filled)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The number of a user or group in the text of passwd(5) or group(5).
///
/// Only local ones count: what the roles need is made by sysusers, and a directory service may be away at boot.
#[must_use]
pub fn number_of(name: &str, table: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

/// Replaces every secret value of a text by asterisks, for output that goes into the state or the journal.
#[must_use]
pub fn redact(text: &str, secrets: &BTreeMap<String, Vec<u8>>) -> String {
    let mut values: Vec<&str> = secrets
        .values()
        .filter_map(|value| std::str::from_utf8(value).ok())
        .map(str::trim)
        .filter(|value| value.len() >= 4)
        .collect();
    // A longer one first, in case it contains a shorter one.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values
        .iter()
        .fold(text.to_owned(), |text, value| text.replace(value, "****"))
}

/// The first global IPv4 address in the output of `ip -json -4 address show dev IF`.
#[must_use]
pub fn first_address(ip_json: &str) -> Option<String> {
    let links: serde_json::Value = serde_json::from_str(ip_json).ok()?;
    links.as_array()?.iter().find_map(|link| {
        link.get("addr_info")?.as_array()?.iter().find_map(|info| {
            (info.get("scope")?.as_str()? == "global")
                .then(|| info.get("local")?.as_str().map(str::to_owned))?
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> BTreeMap<String, Vec<u8>> {
        [("a", "one"), ("b", "@@rolesmith-secret:a@@")]
            .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
            .into()
    }

    #[test]
    fn placeholders_are_replaced_once() {
        let names = ["a".to_owned(), "b".to_owned()];
        let text = b"x=@@rolesmith-secret:a@@ y=@@rolesmith-secret:b@@ z=@@rolesmith-address@@ a=@@rolesmith-secret:a@@\n";
        assert_eq!(
            fill(text, &names, &secrets(), Some("10.0.0.1"), "eth1"),
            Ok(b"x=one y=@@rolesmith-secret:a@@ z=10.0.0.1 a=one\n".to_vec())
        );
        assert_eq!(
            fill(text, &names, &secrets(), None, "eth1"),
            Err(Missing::Address("eth1".into()))
        );
        assert_eq!(
            fill(b"plain", &[], &secrets(), None, "eth1"),
            Ok(b"plain".to_vec())
        );
    }

    #[test]
    fn a_secret_that_was_not_granted_stays_a_placeholder() {
        let text = b"@@rolesmith-secret:a@@";
        assert_eq!(fill(text, &[], &secrets(), None, "eth1"), Ok(text.to_vec()));
        assert_eq!(
            fill(text, &["c".to_owned()], &secrets(), None, "eth1"),
            Err(Missing::Secret("c".into()))
        );
    }

    #[test]
    fn owners_come_from_local_tables() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres:x:104:110::/var/lib/postgresql:/bin/sh\nbad\n";
        assert_eq!(number_of("postgres", passwd), Some(104));
        assert_eq!(number_of("nobody", passwd), None);
        assert_eq!(number_of("bad", passwd), None);
    }

    #[test]
    fn addresses_are_global_ones() {
        let json = r#"[{"ifname":"eth1","addr_info":[{"family":"inet","local":"169.254.1.1","scope":"link"},
            {"family":"inet","local":"10.77.0.11","prefixlen":24,"scope":"global"}]}]"#;
        assert_eq!(first_address(json).as_deref(), Some("10.77.0.11"));
        assert_eq!(first_address("[{}]"), None);
        assert_eq!(first_address(""), None);
    }

    #[test]
    fn secrets_do_not_reach_the_state() {
        let secrets = [
            ("p".to_owned(), b"hunter22\n".to_vec()),
            ("q".to_owned(), b"hunter22-long".to_vec()),
        ]
        .into();
        assert_eq!(
            redact("psql: hunter22-long, hunter22", &secrets),
            "psql: ****, ****"
        );
    }
}
