//! What settings may hold that are lists of text.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

/// What each element of a setting has to be. A list that becomes a part of a configuration file has a kind, so that a slip in
/// fleet.toml is told by `check` and not by a service that does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SettingKind {
    /// IPv4 and IPv6 addresses, and networks such as 198.51.100.0/24.
    Networks,
    /// Text of ASCII letters, digits, blanks and `. _ - / ~`, which means itself in a regular expression once its dots are
    /// escaped.
    Words,
}

impl SettingKind {
    /// Whether `text` may be an element.
    #[must_use]
    pub fn takes(self, text: &str) -> bool {
        match self {
            Self::Networks => is_network(text),
            Self::Words => {
                !text.is_empty()
                    && text.trim() == text
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b" ._-/~".contains(&b))
            }
        }
    }

    /// The first element of `value` that it does not take. `None` where all are taken, or where `value` is no list.
    #[must_use]
    pub fn refused(self, value: &toml::Value) -> Option<&toml::Value> {
        value
            .as_array()?
            .iter()
            .find(|element| !element.as_str().is_some_and(|text| self.takes(text)))
    }

    /// What an element is, for findings.
    #[must_use]
    pub const fn described(self) -> &'static str {
        match self {
            Self::Networks => "an IPv4 or IPv6 address, or a network such as 198.51.100.0/24",
            Self::Words => "text of letters, digits, blanks and . _ - / ~",
        }
    }
}

fn is_network(text: &str) -> bool {
    let (address, length) = match text.split_once('/') {
        None => (text, None),
        Some((address, length)) => (address, Some(length)),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| {
        length.bytes().all(|b| b.is_ascii_digit())
            && length.parse::<u8>().is_ok_and(|length| length <= longest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_with_or_without_a_length() {
        for good in [
            "198.51.100.7",
            "198.51.100.0/24",
            "2001:db8::1",
            "2001:db8::/32",
            "0.0.0.0/0",
        ] {
            assert!(SettingKind::Networks.takes(good), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "198.51.100.0/33",
            "198.51.100.0/+8",
            "198.51.100.0/",
            "2001:db8::/129",
            "fe80::1%eth0",
            "198.51.100.7 ::1",
        ] {
            assert!(!SettingKind::Networks.takes(bad), "{bad}");
        }
    }

    #[test]
    fn words_mean_nothing_to_a_regular_expression() {
        for good in ["sqlmap", "wp-login.php", ".git/", "Nmap Scripting Engine"] {
            assert!(SettingKind::Words.takes(good), "{good}");
        }
        for bad in ["", " sqlmap", "a|b", "a\"b", "(", "$x", "a\nb", "{", "ä"] {
            assert!(!SettingKind::Words.takes(bad), "{bad}");
        }
    }

    #[test]
    fn each_element_is_looked_at() {
        let list = toml::Value::Array(vec!["::1".into(), "router".into()]);
        assert_eq!(
            SettingKind::Networks.refused(&list),
            Some(&toml::Value::from("router"))
        );
        let numbers = toml::Value::Array(vec![1.into()]);
        assert!(SettingKind::Words.refused(&numbers).is_some());
    }
}
