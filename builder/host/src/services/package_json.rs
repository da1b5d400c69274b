//! What package.json says about dependencies.

use serde_json::{Map, Value};

use super::error::ServiceError;

/// Its name.
pub(super) const PACKAGE_JSON: &str = "package.json";

/// Beginnings of dependencies that are files of the source.
const LOCAL: [&str; 9] = [
    "file:",
    "link:",
    "portal:",
    "patch:",
    "workspace:",
    "exec:",
    "./",
    "../",
    "/",
];

/// A package.json.
#[derive(Debug)]
pub(super) struct PackageJson<'a> {
    text: &'a str,
    fields: Map<String, Value>,
}

impl<'a> PackageJson<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, ServiceError> {
        let help = "see https://docs.npmjs.com/cli/configuring-npm/package-json";
        match serde_json::from_str(text) {
            Ok(fields) => Ok(Self { text, fields }),
            Err(error) => Err(ServiceError::source_says(
                PACKAGE_JSON,
                Some(error.line()),
                error.to_string(),
                help,
            )),
        }
    }

    /// Whether the running program has dependencies; what is needed for development alone does not count.
    pub(super) fn has_dependencies(&self) -> bool {
        let some = |field: &str| match self.fields.get(field) {
            Some(Value::Object(map)) => !map.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            _ => false,
        };
        [
            "dependencies",
            "optionalDependencies",
            "peerDependencies",
            "workspaces",
        ]
        .into_iter()
        .any(some)
    }

    /// Whether what is installed depends on files of the source other than those that package managers read in any project.
    pub(super) fn has_local_dependencies(&self) -> bool {
        fn local(value: &Value) -> bool {
            match value {
                Value::String(text) => LOCAL.iter().any(|start| text.starts_with(start)),
                Value::Object(map) => map.values().any(local),
                _ => false,
            }
        }
        let fields = [
            "dependencies",
            "devDependencies",
            "optionalDependencies",
            "peerDependencies",
            "overrides",
            "resolutions",
        ];
        self.fields.contains_key("workspaces")
            || fields
                .iter()
                .filter_map(|field| self.fields.get(*field))
                .any(local)
    }

    /// The field packageManager, and the line that it stands in.
    pub(super) fn package_manager(&self) -> Result<Option<(&str, Option<usize>)>, ServiceError> {
        const FIELD: &str = "packageManager";
        let line = || {
            let at = self.text.find(&format!("\"{FIELD}\""))?;
            Some(self.text[..at].matches('\n').count() + 1)
        };
        match self.fields.get(FIELD) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some((text, line()))),
            Some(_) => {
                let help = "`corepack use` writes it";
                Err(ServiceError::source_says(
                    PACKAGE_JSON,
                    line(),
                    "packageManager is not a string",
                    help,
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> PackageJson<'_> {
        PackageJson::parse(text).unwrap()
    }

    #[test]
    fn what_the_running_program_needs() {
        for text in [
            "{}",
            r#"{"dependencies": {}}"#,
            r#"{"devDependencies": {"a": "1"}}"#,
        ] {
            assert!(!parse(text).has_dependencies(), "{text}");
        }
        for text in [
            r#"{"dependencies": {"a": "1"}}"#,
            r#"{"optionalDependencies": {"a": "1"}}"#,
            r#"{"workspaces": ["packages/*"]}"#,
        ] {
            assert!(parse(text).has_dependencies(), "{text}");
        }
    }

    #[test]
    fn dependencies_that_are_files() {
        for text in [
            r#"{"dependencies": {"a": "^1.0", "b": "npm:c@1", "d": "https://example.org/d.tgz"}}"#,
            r#"{"overrides": {"a": {"b": "1"}}, "main": "./index.js"}"#,
        ] {
            assert!(!parse(text).has_local_dependencies(), "{text}");
        }
        for text in [
            r#"{"dependencies": {"a": "file:vendor/a.tgz"}}"#,
            r#"{"devDependencies": {"a": "../a"}}"#,
            r#"{"resolutions": {"a@1": "patch:a@npm:1#./a.patch"}}"#,
            r#"{"overrides": {"a": {"b": "file:b"}}}"#,
            r#"{"workspaces": {"packages": ["a"]}}"#,
        ] {
            assert!(parse(text).has_local_dependencies(), "{text}");
        }
    }

    #[test]
    fn mistakes_have_their_line() {
        let error = PackageJson::parse("{\n  \"a\": 1,\n}").unwrap_err();
        assert_eq!(error.place().unwrap().1, Some(3));
        let wrong = parse("{\n\n\"packageManager\": 1}");
        assert_eq!(
            wrong.package_manager().unwrap_err().place().unwrap().1,
            Some(3)
        );
        let right = parse("{\n\"packageManager\": \"yarn@4\"}");
        assert_eq!(right.package_manager().unwrap(), Some(("yarn@4", Some(2))));
    }
}
