//! A seed taken apart, as `rolesmith user-data` prints it: what cloud-init would write, and what apt would install.

use std::process::{Command, Stdio};

/// A file that the seed writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits, in octal.
    pub mode: String,
    /// Its text. Everything that seeds carry is text.
    pub text: String,
}

/// A seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// What comes before the files.
    head: String,
    /// The files, in order.
    pub files: Vec<SeedFile>,
    /// The packages, in order.
    pub packages: Vec<String>,
}

impl Seed {
    /// Reads the cloud-config that rolesmith writes; not YAML in general.
    ///
    /// # Panics
    /// Where the text has another shape.
    #[must_use]
    pub fn parse(user_data: &str) -> Self {
        let (head, rest) = user_data
            .split_once("\nwrite_files:\n")
            .expect("the seed writes files");
        let (files, rest) = rest
            .split_once("\npackage_update:")
            .expect("the seed updates apt");
        let (_, packages) = rest
            .split_once("\npackages:\n")
            .expect("the seed installs packages");
        let packages = packages
            .lines()
            .filter_map(|line| line.strip_prefix("- "))
            .map(str::to_owned)
            .collect();
        let files = format!("\n{files}")
            .split("\n- path: ")
            .skip(1)
            .map(file)
            .collect();
        Self {
            head: head.to_owned(),
            files,
            packages,
        }
    }

    /// Cloud-config that makes the machine known to apt and nothing more: no identity, no secrets, no masks, no packages.
    #[must_use]
    pub fn bare_user_data(&self) -> String {
        // Masks would be the seed's; without them the packages have to see to it themselves.
        let head = match self
            .head
            .split_once("\n# This machine belongs to the fleet")
        {
            Some((head, _)) => head,
            None => &self.head,
        };
        // So are answers to what packages ask.
        let answers = |line: &&str| {
            !line.starts_with("  debconf_selections:") && !line.starts_with("    rolesmith")
        };
        let head: Vec<&str> = head.lines().filter(answers).collect();
        let mut text = format!("{}\nwrite_files:\n", head.join("\n"));
        for file in self
            .files
            .iter()
            .filter(|file| file.path.starts_with("/etc/apt/") || file.path.starts_with("/usr/"))
        {
            text.push_str(&format!(
                "- path: {}\n  permissions: '{}'\n  content: |\n",
                file.path, file.mode
            ));
            file.text
                .lines()
                .for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        text
    }

    /// The identity and the secrets: what makes the machine a node.
    #[must_use]
    pub fn identity(&self) -> Vec<&SeedFile> {
        self.files
            .iter()
            .filter(|file| file.path.starts_with("/etc/rolesmith/"))
            .collect()
    }

    /// The values that no one else may ever see: those of the secrets, and the longest line of the private key.
    #[must_use]
    pub fn secret_values(&self) -> Vec<String> {
        let secret =
            |file: &&SeedFile| file.path.starts_with("/etc/rolesmith/") && file.mode == "0600";
        let longest = |file: &SeedFile| {
            file.text
                .lines()
                .max_by_key(|line| line.len())
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        self.files.iter().filter(secret).map(longest).collect()
    }
}

fn file(entry: &str) -> SeedFile {
    let (path, rest) = entry.split_once('\n').expect("an entry has several lines");
    let value = |key: &str| {
        rest.lines()
            .find_map(|line| line.trim_start().strip_prefix(key))
            .map(|value| value.trim().trim_matches('\''))
    };
    let mode = value("permissions:").expect("a file has a mode").to_owned();
    let text = match value("encoding:") {
        Some("b64") => decode(value("content:").expect("a file has content")),
        Some(other) => panic!("{path}: encoding {other:?}"),
        None => {
            let (_, block) = rest.split_once("content: |\n").expect("a file has content");
            let lines = block
                .lines()
                .map(|line| line.strip_prefix("    ").unwrap_or(line));
            lines.map(|line| format!("{line}\n")).collect()
        }
    };
    SeedFile {
        path: path.to_owned(),
        mode,
        text,
    }
}

fn decode(base64: &str) -> String {
    use std::io::Write as _;
    let mut program = Command::new("base64")
        .arg("--decode")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("base64 of coreutils starts");
    program
        .stdin
        .take()
        .expect("was asked for")
        .write_all(base64.as_bytes())
        .expect("base64 reads");
    let output = program.wait_with_output().expect("base64 ends");
    assert!(output.status.success(), "the seed's base64 is sound");
    String::from_utf8(output.stdout).expect("secrets are text")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "#cloud-config\nhostname: one\n# This machine belongs to the fleet: masks.\nbootcmd:\n- [x]\nwrite_files:\n\
        - path: /etc/apt/a.conf\n  owner: root:root\n  permissions: '0644'\n  content: |\n    one\n\n    two\n\
        - path: /etc/rolesmith/secrets/s\n  owner: root:root\n  permissions: '0600'\n  encoding: b64\n  content: c2VjcmV0\n\
        package_update: true\npackage_upgrade: false\npackages:\n- a\n- b\n";

    #[test]
    fn a_seed_comes_apart_and_its_bare_half_holds_no_secret() {
        let seed = Seed::parse(SEED);
        assert_eq!(seed.packages, ["a", "b"]);
        assert_eq!(seed.files[0].text, "one\n\ntwo\n");
        assert_eq!(seed.files[1].text, "secret");
        assert_eq!(seed.secret_values(), ["secret"]);
        assert_eq!(seed.identity().len(), 1);
        let bare = seed.bare_user_data();
        assert!(
            bare.contains("hostname: one") && bare.contains("/etc/apt/a.conf"),
            "{bare}"
        );
        for absent in ["rolesmith", "c2VjcmV0", "bootcmd", "packages"] {
            assert!(!bare.contains(absent), "{absent}: {bare}");
        }
    }
}
