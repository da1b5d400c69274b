use super::*;

const YARN_4: &str = "# comment\n\n__metadata:\n  version: 8\n  cacheKey: 10c0\n\n";

/// The line of what is wrong.
#[track_caller]
fn refused(file: &str, text: &str, says: &str) -> Option<usize> {
    let error = format(file, text).unwrap_err();
    assert!(error.to_string().contains(says), "{error}");
    error.place().unwrap().1
}

#[test]
fn formats() {
    let of = |file: &str, text: &str| format(file, text).unwrap();
    assert_eq!(of("yarn.lock", "# yarn lockfile v1\n\n\n"), Format::Yarn1);
    assert_eq!(of("yarn.lock", YARN_4), Format::Yarn4);
    assert_eq!(
        of("package-lock.json", r#"{"lockfileVersion": 3}"#),
        Format::Npm
    );
}

#[test]
fn what_is_no_lock_file() {
    assert_eq!(
        refused("yarn.lock", "__metadata:\n  version: 6\n", "yarn 2 or 3"),
        Some(2)
    );
    assert_eq!(
        refused("package-lock.json", "{\n<<<<<<< ours\n", "merge"),
        Some(2)
    );
    assert_eq!(refused("package-lock.json", "{\n\"a\"\n", "EOF"), Some(3));
    assert_eq!(refused("package-lock.json", "{}", "lockfileVersion"), None);
}

/// A package-lock.json with one dependency, whose fields begin in line 4.
fn npm(fields: &str) -> String {
    format!(
        "{{\"lockfileVersion\": 3, \"packages\": {{\n\"\": {{}},\n  \"node_modules/a\": {{\n{fields}}}}}}}"
    )
}

#[test]
fn dependencies_of_npm() {
    let file = "package-lock.json";
    for fields in [
        "\"version\": \"1.0.0\", \"integrity\": \"sha512-x\"",
        "\"resolved\": \"packages/a\", \"link\": true",
        "\"version\": \"1.0.0\", \"inBundle\": true",
        "\"resolved\": \"file:vendor/a.tgz\"",
    ] {
        assert_eq!(format(file, &npm(fields)).unwrap(), Format::Npm, "{fields}");
    }
    let git = npm("\"resolved\": \"git+ssh://git@example.org/a.git#1\"");
    assert_eq!(refused(file, &git, "git repository"), Some(3));
    assert_eq!(
        refused(file, &npm("\"version\": \"1.0.0\""), "without a digest"),
        Some(3)
    );
    let own = r#"{"lockfileVersion": 3, "packages": {"": {}, "packages/a": {"version": "1.0.0"}}}"#;
    format(file, own).unwrap();
    let old = "{\"lockfileVersion\": 1, \"dependencies\": {\"a\": {\"version\": \"1\", \"integrity\": \"sha1-x\", \"dependencies\": {\n\"b\": {\"version\": \"2\"}}}}}";
    assert_eq!(refused(file, old, "without a digest"), Some(2));
    format(
        file,
        &old.replace("\"2\"", "\"2\", \"integrity\": \"sha1-y\""),
    )
    .unwrap();
}

#[test]
fn dependencies_of_yarn_1() {
    let file = "yarn.lock";
    let lock = |fields: &str| {
        format!(
            "# yarn lockfile v1\n\na@^1, a@^1.2:\n  version \"1.2.0\"\n{fields}\nb@file:./b:\n  version \"0.0.0\"\n"
        )
    };
    for fields in [
        "  resolved \"https://registry.example.org/a/-/a-1.2.0.tgz#0123\"\n  integrity sha512-x\n",
        "  resolved \"https://registry.example.org/a/-/a-1.2.0.tgz#0123\"\n",
        "  resolved \"https://registry.example.org/a/-/a-1.2.0.tgz\"\n  integrity sha512-x\n",
    ] {
        assert_eq!(
            format(file, &lock(fields)).unwrap(),
            Format::Yarn1,
            "{fields}"
        );
    }
    for (fields, says) in [
        (
            "  resolved \"https://example.org/a.git#0123\"\n",
            "git repository",
        ),
        ("  integrity sha512-x\n", "without a digest"),
        (
            "  resolved \"https://example.org/tar.gz/0123\"\n",
            "without a digest",
        ),
        (
            "  dependencies:\n    resolved \"https://example.org/x#1\"\n",
            "without a digest",
        ),
    ] {
        assert_eq!(refused(file, &lock(fields), says), Some(3), "{fields}");
    }
}

#[test]
fn dependencies_of_yarn_4() {
    let git =
        format!("{YARN_4}\"a@x\":\n  resolution: \"a@https://example.org/a.git#commit=0123\"\n");
    assert_eq!(refused("yarn.lock", &git, "git repository"), Some(8));
    format("yarn.lock", &git.replace("#commit=0123", "")).unwrap();
}
