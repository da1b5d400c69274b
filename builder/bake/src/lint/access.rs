//! Who may do what: passwords, keys, permissions, owners.

use std::collections::BTreeSet;

use super::{Kind, Lint, Look, allowed};

pub(super) const LINTS: &[Lint] = &[
    Lint {
        name: "user-password",
        rule: "no user and no group has a password, not even an empty or a locked one",
        why: "All machines would share it, and everybody who has the image can look for it.",
        help: "lock it: usermod --password '*' USER; people come in with the keys of fleet.toml",
        check: user_password,
    },
    Lint {
        name: "authorized-keys",
        rule: "nobody's key lets in",
        why: "Who may come in stands in the seed and changes with it; a key in the image opens every machine, for ever.",
        help: "remove the file; give keys as `admin_ssh_keys` in fleet.toml",
        check: authorized_keys,
    },
    Lint {
        name: "setuid-file",
        rule: "the setuid and setgid programs are those that are known, each with its reason",
        why: "Each of them runs with rights that its caller does not have: more of them are more ways to become root.",
        help: "remove the package or the bit (dpkg-statoverride --add root root 0755 FILE); where Debian needs it, it belongs into builder/bake/src/lint/allowed.rs with the reason",
        check: setuid_file,
    },
    Lint {
        name: "file-capability",
        rule: "the programs with file capabilities are those that are known, each with its reason",
        why: "As with setuid: a program that anybody may call has rights that its caller does not have.",
        help: "remove the package, or the capability (setcap -r FILE); where Debian needs it, it belongs into builder/bake/src/lint/allowed.rs with the reason",
        check: file_capability,
    },
    Lint {
        name: "world-writable",
        rule: "nobody may write but to directories with the sticky bit",
        why: "What anybody may change, a service that was broken into changes too.",
        help: "take the permission away: chmod o-w PATH; a directory for everybody has mode 1777",
        check: world_writable,
    },
    Lint {
        name: "unknown-owner",
        rule: "every owner and group stands in /etc/passwd and /etc/group",
        why: "Files of ids that nobody has belong to the next user who gets them; ids above 65535 were left over by a user namespace.",
        help: "bake again; where it stays, the package that ships the file must make its user first (sysusers.d)",
        check: unknown_owner,
    },
    Lint {
        name: "device",
        rule: "there are no device nodes, pipes or sockets",
        why: "devtmpfs makes devices at boot; one outside of it is a way around permissions.",
        help: "remove it from the tree",
        check: |look| {
            let special = look
                .tree
                .iter()
                .filter(|(_, entry)| entry.kind == Kind::Special);
            look.say_all(
                special.map(|(path, _)| path),
                "a device, a pipe or a socket",
            );
        },
    },
];

fn user_password(look: &mut Look<'_>) {
    for path in ["etc/shadow", "etc/gshadow"] {
        let Some(text) = look.tree.text(path) else {
            look.say(path, "it is missing");
            continue;
        };
        for line in text.lines() {
            let mut fields = line.split(':');
            let (name, hash) = (fields.next().unwrap_or_default(), fields.next());
            match hash {
                // `!` and `*` are no hash of anything (shadow(5)).
                Some(hash) if !hash.is_empty() && hash.chars().all(|c| matches!(c, '!' | '*')) => {}
                Some("") => look.say(path, format!("{name} has an empty password")),
                Some(_) => look.say(path, format!("{name} has a password")),
                None => look.say(path, format!("{line:?} is no entry")),
            }
        }
    }
    for line in look.tree.text("etc/passwd").unwrap_or_default().lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(hash)) = (fields.next(), fields.next())
            && !matches!(hash, "x" | "*" | "!")
        {
            look.say(
                "etc/passwd",
                format!("{name} has a password in a file that all may read"),
            );
        }
    }
}

fn authorized_keys(look: &mut Look<'_>) {
    for (path, entry) in look.tree.iter() {
        let mut parts = path.rsplit('/');
        let (name, directory) = (
            parts.next().unwrap_or(path),
            parts.next().unwrap_or_default(),
        );
        let names_keys = name.starts_with("authorized_keys") && matches!(directory, ".ssh" | "ssh");
        if names_keys && !entry.is_directory() {
            look.say(path, "keys that let in");
        }
    }
}

fn setuid_file(look: &mut Look<'_>) {
    for (path, entry) in look.tree.iter() {
        let bits = entry.mode & 0o6000;
        // Of directories the bits say who owns new files in them.
        if bits == 0 || entry.is_directory() || matches!(entry.kind, Kind::Symlink(_)) {
            continue;
        }
        match allowed::setuid(path, look.expected.suite) {
            Some(known) if bits & !known == 0 => {}
            Some(_) => look.say(
                path,
                format!("mode {:04o} has more bits than Debian gives it", entry.mode),
            ),
            None => look.say(
                path,
                format!(
                    "mode {:04o}, and it is not among those that are known",
                    entry.mode
                ),
            ),
        }
    }
}

fn file_capability(look: &mut Look<'_>) {
    let with = look.tree.iter().filter(|(_, entry)| entry.capabilities);
    let unknown = with.filter(|(path, _)| !allowed::capabilities(path, look.expected.suite));
    look.say_all(
        unknown.map(|(path, _)| path),
        "it has capabilities, and is not among those that are known",
    );
}

fn world_writable(look: &mut Look<'_>) {
    for (path, entry) in look.tree.iter() {
        if entry.mode & 0o002 == 0 || matches!(entry.kind, Kind::Symlink(_)) {
            continue;
        }
        if !entry.is_directory() {
            look.say(
                path,
                format!("mode {:04o}: everybody may write", entry.mode),
            );
        } else if entry.mode & 0o1000 == 0 {
            look.say(
                path,
                format!(
                    "mode {:04o}: everybody may remove others' files",
                    entry.mode
                ),
            );
        }
    }
}

/// The numbers in the third field of passwd(5) or group(5).
fn ids(text: &str) -> BTreeSet<u64> {
    text.lines()
        .filter_map(|line| line.split(':').nth(2)?.parse().ok())
        .collect()
}

fn unknown_owner(look: &mut Look<'_>) {
    let users = ids(&look.tree.text("etc/passwd").unwrap_or_default());
    let groups = ids(&look.tree.text("etc/group").unwrap_or_default());
    for (path, entry) in look.tree.iter() {
        if !users.contains(&entry.uid) {
            look.say(path, format!("there is no user {}", entry.uid));
        } else if !groups.contains(&entry.gid) {
            look.say(path, format!("there is no group {}", entry.gid));
        }
    }
}
