//! The application that `init --example` writes. Its own tests are run by `make test-example`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rolesmith_testkit::{Entry, TestFleet, Tree};
use serde_json::Value;

use crate::ROLESMITH;

fn templates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/example")
}

/// The bytes of all files below a directory.
fn files(tree: &Tree, below: &str) -> BTreeMap<String, Vec<u8>> {
    let files = tree.0.iter().filter_map(|(path, entry)| match entry {
        Entry::File(_, bytes) => Some((path.strip_prefix(below)?.to_owned(), bytes.clone())),
        _ => None,
    });
    files.collect()
}

fn site(name: &str) -> String {
    std::fs::read_to_string(templates().join("sites/shop").join(name)).expect(name)
}

#[test]
fn init_writes_it_whole_and_only_when_asked() {
    let fleet = TestFleet::example(ROLESMITH);
    let wanted = files(&Tree::read(&templates()), "");
    assert!(wanted.contains_key("services/shop/.npmrc"));
    assert!(wanted.contains_key("sites/shop/index.html"));
    let tree = fleet.tree();
    for part in ["services/", "sites/"] {
        let of_part = wanted
            .iter()
            .filter_map(|(path, bytes)| Some((path.strip_prefix(part)?.to_owned(), bytes.clone())));
        assert_eq!(files(&tree, part), of_part.collect());
    }

    let plain = TestFleet::init(ROLESMITH, "acme");
    assert!(files(&plain.tree(), "services/").is_empty());
}

#[test]
fn init_leaves_a_service_that_is_there_alone() {
    let fleet = TestFleet::empty(ROLESMITH);
    fleet.write("services/shop/server.js", "// mine\n");
    fleet.run(&["init", "--example"]).succeeded();
    assert_eq!(fleet.read("services/shop/server.js"), "// mine\n");
    assert!(fleet.path("services/shop/migrate.js").exists());
}

/// Whoever installs chooses the registry, and nothing runs at installation.
#[test]
fn its_lock_file_names_digests_and_no_registry() {
    let path = templates().join("services/shop/package-lock.json");
    let lock: Value = serde_json::from_slice(&std::fs::read(path).expect("it is there")).unwrap();
    let packages = lock["packages"].as_object().expect("lock file version 3");
    assert!(packages.len() > 10);
    for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
        let integrity = package["integrity"].as_str().unwrap_or_default();
        assert!(integrity.starts_with("sha512-"), "{name}: {integrity}");
        assert_eq!(package.get("resolved"), None, "{name}");
        assert_eq!(package.get("hasInstallScript"), None, "{name}");
    }
}

/// What `default-src 'self'` allows: nothing inline, nothing from elsewhere.
#[test]
fn its_page_needs_no_more_than_its_own_origin() {
    let page = site("index.html");
    let mut named = Vec::new();
    for attribute in ["src=\"", "href=\""] {
        named.extend(
            page.split(attribute)
                .skip(1)
                .filter_map(|rest| rest.split('"').next()),
        );
    }
    assert!(named.contains(&"/app.js") && named.contains(&"/favicon.svg"));
    for place in named
        .into_iter()
        .filter(|place| !place.starts_with('#') && *place != "/")
    {
        let name = place
            .strip_prefix('/')
            .expect("absolute, for every address of the page");
        assert!(!site(name).is_empty());
    }
    assert_eq!(
        page.matches("<script").count(),
        page.matches("></script>").count()
    );
    let tags = page.split('<').filter_map(|rest| rest.split('>').next());
    for tag in tags {
        assert!(
            !tag.starts_with("style") && !tag.contains(" style="),
            "<{tag}>"
        );
        let handler = |word: &str| word.starts_with("on") && word.contains("=\"");
        assert!(!tag.split_whitespace().any(handler), "<{tag}>");
    }
    for name in ["app.js", "api.js", "dom.js"] {
        let script = site(name);
        for forbidden in [
            "innerHTML",
            "insertAdjacentHTML",
            "eval(",
            "new Function",
            "http:",
            "https:",
        ] {
            assert!(!script.contains(forbidden), "{name}: {forbidden}");
        }
    }
}
