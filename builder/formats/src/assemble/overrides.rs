//! lintian tags that hold for every package of a fleet and do not apply to it, each with its reason.

use std::fmt::Write as _;

use rolesmith_model::{
    ids::Suite,
    plan::{Content, Override, Package},
};

use crate::{compress::Compression, facts};

/// Top-level domains for private use (reserved by ICANN in July 2024; RFC 8375), which no mail server of the internet knows.
const PRIVATE_DOMAINS: [&str; 2] = [".internal", ".home.arpa"];

/// The file below /usr/share/lintian/overrides: what the package itself says, and what its form and contents bring with them.
///
/// The suite's own lintian decides: an override that it does not need would be a finding, too.
pub(super) fn file(package: &Package, suite: Suite, compression: Compression) -> String {
    let mut all = package.lintian.clone();
    let mut add = |tag: &str, context: Option<&str>, reason: &str| {
        if !all
            .iter()
            .any(|o| o.tag == tag && o.context.as_deref() == context)
        {
            all.push(Override {
                tag: tag.to_owned(),
                context: context.map(str::to_owned),
                reason: reason.to_owned(),
            });
        }
    };
    let signature = facts::signature_override();
    add(
        &signature.tag,
        signature.context.as_deref(),
        &signature.reason,
    );
    if compression == Compression::Zstd {
        add(
            "malformed-deb-archive",
            Some("* member *.tar.zst not *"),
            "Debian's archive does not take members compressed with zstd; dpkg 1.21.18 and all later ones read them.",
        );
    }
    if private_mail(&package.maintainer) {
        let reason = "The maintainer's address is one of the network in which alone the package is published.";
        add("bogus-mail-host", None, reason);
        if suite == Suite::Bookworm {
            add("bogus-mail-host-in-debian-changelog", None, reason);
        }
    }
    let service =
        |path: &str| path.starts_with("/usr/lib/systemd/system/") && path.contains(".service");
    if suite == Suite::Bookworm && package.files.iter().any(|f| service(&f.path)) {
        add(
            "package-supports-alternative-init-but-no-init.d-script",
            None,
            "Machines of a fleet run systemd (Policy 9.11 leaves init scripts to the maintainer).",
        );
    }
    if package
        .files
        .iter()
        .any(|f| f.path.starts_with(SITES) && is_plain_text(&f.path, &f.content))
    {
        add(
            "package-contains-documentation-outside-usr-share-doc",
            Some("[usr/share/rolesmith/sites/*]"),
            "A site is made of pages.",
        );
    }
    for (tag, context, reason) in of_others(package, suite) {
        add(tag, Some(context), reason);
    }
    if package
        .files
        .iter()
        .any(|f| !f.path.starts_with(SITES) && is_plain_text(&f.path, &f.content))
    {
        add(
            "package-contains-documentation-outside-usr-share-doc",
            Some("[usr/lib/rolesmith/*]"),
            "Configuration whose program wants a name that ends like a document's.",
        );
    }
    let mut text = String::new();
    for each in all {
        let _ = writeln!(text, "# {}", each.reason.trim_end().replace('\n', "\n# "));
        let _ = match &each.context {
            Some(context) => writeln!(text, "{}: {} {context}", package.name, each.tag),
            None => writeln!(text, "{}: {}", package.name, each.tag),
        };
    }
    text
}

/// Whether the address in `Name <address>` is one of a private network.
fn private_mail(maintainer: &str) -> bool {
    let address = maintainer.rsplit('<').next().unwrap_or_default();
    let address = address.trim_end_matches('>').to_ascii_lowercase();
    PRIVATE_DOMAINS
        .iter()
        .any(|domain| address.ends_with(domain))
}

/// Where the files of sites are.
const SITES: &str = "/usr/share/rolesmith/sites/";

/// What stands below a service's node_modules was made by others and is shipped as they made it. lintian looks at names, and so does this: an
/// override for what is not there would be a finding as well.
fn of_others(package: &Package, suite: Suite) -> Vec<(&'static str, &'static str, &'static str)> {
    const REASON: &str = "Dependencies of the service, shipped as their authors published them.";
    const INSIDE: &str = "[usr/lib/rolesmith/services/*/node_modules/*]";
    let names: Vec<(&str, String)> = package
        .files
        .iter()
        .filter(|f| f.path.starts_with("/usr/lib/rolesmith/services/"))
        .filter_map(|f| {
            let (_, inside) = f.path.split_once("/node_modules/")?;
            let name = inside.rsplit('/').next().unwrap_or(inside);
            Some((inside, name.to_ascii_lowercase()))
        })
        .collect();
    let any = |test: &dyn Fn(&str) -> bool| names.iter().any(|(_, name)| test(name));
    let mut all = Vec::new();
    if any(&|name| name.starts_with(".eslintrc")) {
        all.push(("package-contains-eslint-config-file", INSIDE, REASON));
    }
    if any(&|name| name == ".npmignore") {
        all.push(("package-contains-npm-ignore-file", INSIDE, REASON));
    }
    if any(&|name| {
        ["license", "licence", "copying"]
            .iter()
            .any(|begin| name.starts_with(begin))
    }) {
        all.push(("extra-license-file", INSIDE, REASON));
    }
    // Debian 12's lintian does not find them there.
    if suite != Suite::Bookworm && any(&|name| LIBRARIES.contains(&name)) {
        all.push((
            "embedded-javascript-library",
            "* [usr/lib/rolesmith/services/*/node_modules/*]",
            REASON,
        ));
    }
    if names.iter().any(|(inside, _)| inside.contains("/lib/")) {
        all.push((
            "repeated-path-segment",
            "lib [usr/lib/rolesmith/services/*/node_modules/*]",
            REASON,
        ));
    }
    all
}

/// Files that lintian takes for copies of Debian's own libraries.
const LIBRARIES: [&str; 6] = [
    "lodash.js",
    "lodash.min.js",
    "underscore.js",
    "underscore-min.js",
    "jquery.js",
    "jquery.min.js",
];

/// What lintian takes for documentation by its name.
fn is_plain_text(path: &str, content: &Content) -> bool {
    (path.starts_with("/usr/lib/rolesmith/") || path.starts_with(SITES))
        && matches!(content, Content::File(_))
        && [".txt", ".md", ".rst", ".html"]
            .iter()
            .any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::private_mail;

    #[test]
    fn private_networks_are_known_by_their_names_alone() {
        assert!(private_mail("Operations <ops@example.internal>"));
        assert!(private_mail("Me <me@box.HOME.ARPA>"));
        assert!(!private_mail("Operations <ops@example.org>"));
        assert!(!private_mail("Internal <ops@internal.example.org>"));
    }
}
