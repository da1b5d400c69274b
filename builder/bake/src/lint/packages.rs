//! dpkg's and apt's affairs, and times.

use super::{Lint, Look};

/// Seconds of a day, in which shadow(5) counts.
const DAY: u64 = 86_400;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        name: "package-state",
        rule: "every package that dpkg knows is installed, wholly",
        why: "A package that is half-configured stops every later apt on the machine; one that was removed has left its configuration.",
        help: "see which maintainer script failed; purge what was removed",
        check: package_state,
    },
    Lint {
        name: "dpkg-leftover",
        rule: "dpkg and ucf have left no file aside",
        why: "A *.dpkg-new or *.dpkg-dist means that a question about a configuration file was not answered, or that dpkg was interrupted.",
        help: "let one package own the file, or divert it; bake again",
        check: dpkg_leftover,
    },
    Lint {
        name: "policy-rc.d",
        rule: "services may be started",
        why: "With a policy-rc.d that forbids it, packages that are upgraded on the machine never restart their services.",
        help: "remove /usr/sbin/policy-rc.d, and the diversion of start-stop-daemon",
        check: |look| {
            for path in [
                "usr/sbin/policy-rc.d",
                "usr/sbin/start-stop-daemon.REAL",
                "sbin/start-stop-daemon.REAL",
            ] {
                if look.tree.get(path).is_some() {
                    look.say(path, "it keeps packages from starting services");
                }
            }
        },
    },
    Lint {
        name: "apt-lists",
        rule: "apt has no lists and no packages in its cache",
        why: "They are old at the first boot, are fetched anew then, and are the largest part that an image need not have.",
        help: "remove what is below /var/lib/apt/lists and /var/cache/apt (apt-get clean)",
        check: apt_lists,
    },
    Lint {
        name: "apt-sources",
        rule: "apt's sources are the fleet's and, where the image has them, Debian's; none is on the machine that baked",
        why: "A machine that asks its builder's mirror has no updates where that cannot be reached.",
        help: "remove the file; the fleet's sources come with its keyring package",
        check: apt_sources,
    },
    Lint {
        name: "apt-configuration",
        rule: "apt's configuration is of packages alone",
        why: "mmdebstrap leaves its options in 99mmdebstrap, proxies among them: they would change what apt does on the machine.",
        help: "remove the file",
        check: apt_configuration,
    },
    Lint {
        name: "late-time",
        rule: "no file and no password date is newer than the image",
        why: "A time from the builder's clock makes the next build another one, byte for byte.",
        help: "let the step that writes the file honour SOURCE_DATE_EPOCH",
        check: late_time,
    },
];

fn package_state(look: &mut Look<'_>) {
    let path = "var/lib/dpkg/status";
    let Some(status) = look.tree.text(path) else {
        look.say(path, "it is missing");
        return;
    };
    for stanza in status.split("\n\n") {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let (package, state) = (field("Package"), field("Status"));
        if let (Some(package), Some(state)) = (package, state)
            // What is on hold is installed too.
            && !matches!(state, "install ok installed" | "hold ok installed")
        {
            look.say(path, format!("{package} is \"{state}\""));
        }
    }
}

fn dpkg_leftover(look: &mut Look<'_>) {
    const ENDS: [&str; 8] = [
        ".dpkg-new",
        ".dpkg-tmp",
        ".dpkg-old",
        ".dpkg-dist",
        ".dpkg-bak",
        ".dpkg-remove",
        ".ucf-dist",
        ".ucf-new",
    ];
    for (path, entry) in look.tree.iter() {
        if !entry.is_directory() && ENDS.iter().any(|end| path.ends_with(end)) {
            look.say(path, "a file that dpkg or ucf has left aside");
        }
    }
    look.say_all(
        look.tree.files_below("var/lib/dpkg/updates"),
        "dpkg was interrupted",
    );
}

fn apt_lists(look: &mut Look<'_>) {
    for place in ["var/lib/apt/lists", "var/cache/apt"] {
        let files = look.tree.files_below(place);
        // Locks are empty, and always there.
        let files = files.filter(|path| !path.ends_with("/lock"));
        look.say_all(files, "apt fetches it anew");
    }
}

fn apt_sources(look: &mut Look<'_>) {
    let own = format!("etc/apt/sources.list.d/{}.sources", look.expected.fleet);
    let debian = "etc/apt/sources.list.d/debian.sources";
    let listed = look.tree.files_below("etc/apt/sources.list.d");
    for path in listed.chain(["etc/apt/sources.list"]) {
        let text = look.tree.text(path).unwrap_or_default();
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        if lines.clone().next().is_none() {
            continue;
        }
        let known = (path == own && !look.expected.roles.is_empty())
            || (path == debian && look.expected.debian_sources);
        if !known {
            look.say(path, "sources that this image should not have");
            continue;
        }
        let local = lines.find(|line| {
            [
                "file:",
                "copy:",
                "cdrom:",
                "localhost",
                "127.0.0.1",
                "[::1]",
            ]
            .iter()
            .any(|place| line.contains(place))
        });
        if let Some(line) = local {
            look.say(path, format!("a source on the machine that baked: {line}"));
        }
    }
}

fn apt_configuration(look: &mut Look<'_>) {
    for path in look
        .tree
        .files_below("etc/apt/apt.conf.d")
        .chain(["etc/apt/apt.conf"])
    {
        let text = look.tree.text(path).unwrap_or_default();
        let mut lines = text.lines().map(|line| line.trim().to_ascii_lowercase());
        if path.ends_with("mmdebstrap") {
            look.say(path, "options of the time of building");
        } else if lines.any(|line| !line.starts_with("//") && line.contains("::proxy ")) {
            look.say(path, "a proxy of the machine that baked");
        }
    }
}

fn late_time(look: &mut Look<'_>) {
    let epoch = look.expected.epoch;
    for (path, entry) in look.tree.iter().filter(|(_, entry)| entry.mtime > epoch) {
        look.say(
            path,
            format!("it is {} s newer than the image", entry.mtime - epoch),
        );
    }
    for line in look.tree.text("etc/shadow").unwrap_or_default().lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, changed, ..] = fields[..]
            && changed.parse().is_ok_and(|day: u64| day > epoch / DAY)
        {
            look.say(
                "etc/shadow",
                format!("the password of {name} is dated after the image"),
            );
        }
    }
}
