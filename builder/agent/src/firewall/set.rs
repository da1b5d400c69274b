//! Sets of guarded files, and the ways back from them, as values.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A file of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetFile {
    /// Relative to the directory of the role `base`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// User and group by number.
    pub owner: (u32, u32),
    /// Its content.
    pub text: String,
}

/// The guarded files as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Set {
    /// Its files, by path.
    pub files: Vec<SetFile>,
}

impl Set {
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
    }

    /// What goes to ipset restore(8), if anything.
    #[must_use]
    pub fn sets(&self) -> Option<&str> {
        self.text("firewall.ipset")
    }

    /// Programs that load rules, each with its rules.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("iptables-restore", "firewall.v4"),
            ("ip6tables-restore", "firewall.v6"),
        ]
        .into_iter()
        .filter_map(|(program, path)| Some((program, self.text(path)?)))
    }
}

/// What was loaded on the machine before a set was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Saved {
    /// Output of iptables-save(8).
    pub v4: String,
    /// Output of ip6tables-save(8).
    pub v6: String,
    /// Output of ipset save; `None` where ipset is not installed.
    pub ipset: Option<String>,
}

/// The way back from `loaded` to `saved`, both in the format of iptables-save(8).
///
/// iptables-restore leaves tables alone that its input does not name: those that came with `loaded` are emptied.
#[must_use]
pub fn way_back(saved: &str, loaded: &str) -> String {
    let tables = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix('*'))
            .map(str::to_owned)
            .collect()
    };
    let before = tables(saved);
    let mut text = saved.to_owned();
    for table in tables(loaded)
        .iter()
        .filter(|table| !before.contains(table))
    {
        let chains: &[&str] = match table.as_str() {
            "nat" => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            "mangle" => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
            "raw" => &["PREROUTING", "OUTPUT"],
            _ => &["INPUT", "FORWARD", "OUTPUT"],
        };
        text.push_str(&format!("*{table}\n"));
        for chain in chains {
            text.push_str(&format!(":{chain} ACCEPT [0:0]\n"));
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// The way back for sets: `ipset restore -exist` adds to a set that exists, so each is emptied after its creation.
#[must_use]
pub fn sets_way_back(saved: &str) -> String {
    let mut text = String::new();
    for line in saved.lines() {
        text.push_str(line);
        text.push('\n');
        if let Some(name) = line
            .strip_prefix("create ")
            .and_then(|rest| rest.split(' ').next())
        {
            text.push_str(&format!("flush {name}\n"));
        }
    }
    text
}

/// Names of the fleet's sets that are `there`, one a line, and that `declared` does not make.
pub(super) fn stale<'a>(declared: &'a str, there: &'a str) -> impl Iterator<Item = &'a str> {
    let made: BTreeSet<&str> = declared
        .lines()
        .filter_map(|line| line.strip_prefix("create ")?.split(' ').next())
        .collect();
    there
        .lines()
        .map(str::trim)
        .filter(move |name| name.starts_with("rolesmith-") && !made.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_empties_tables_that_were_not_there() {
        let saved = "*filter\n:INPUT DROP [1:2]\n-A INPUT -j ACCEPT\nCOMMIT\n";
        assert_eq!(way_back(saved, "*filter\nCOMMIT\n"), saved);
        assert_eq!(
            way_back(
                saved,
                "*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\nCOMMIT\n"
            ),
            format!("{saved}*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n")
        );
        assert_eq!(
            way_back("", "*filter\n:MINE - [0:0]\nCOMMIT\n"),
            "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
        );
        assert_eq!(way_back("", ""), "");
    }

    #[test]
    fn sets_of_others_and_those_that_are_declared_stay() {
        let declared = "create rolesmith-ban4 hash:ip\ncreate rolesmith-tcp-80 hash:ip\nadd rolesmith-tcp-80 10.0.0.1\n";
        let there = "f2b-sshd\nrolesmith-ban4\nrolesmith-tcp-80\nrolesmith-tcp-8\n";
        assert_eq!(
            stale(declared, there).collect::<Vec<_>>(),
            ["rolesmith-tcp-8"]
        );
        assert_eq!(stale(declared, "").count(), 0);
    }

    #[test]
    fn sets_are_emptied_before_they_are_filled_again() {
        assert_eq!(
            sets_way_back("create a hash:ip family inet\nadd a 10.0.0.1\n"),
            "create a hash:ip family inet\nflush a\nadd a 10.0.0.1\n"
        );
    }
}
