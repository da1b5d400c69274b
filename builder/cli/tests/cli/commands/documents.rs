//! What the program prints about itself: schemas, completions, manual pages.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use rolesmith_testkit::TestFleet;
use serde_json::{Value, json};

use crate::{ROLESMITH, cases, name};

fn schema(of: &str) -> Value {
    let fleet = TestFleet::empty(ROLESMITH);
    let run = fleet.run(&["schema", of]);
    serde_json::from_str(&run.succeeded().stdout).expect("a schema is JSON")
}

/// Why `value` does not have the shape that the schema asks for, as far as objects, their keys, and types go.
fn misfit(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.strip_prefix('#')?)?;
        return misfit(root, target, value, at);
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        if let Some(list) = schema[word].as_array() {
            let misfits: Vec<_> = list
                .iter()
                .filter_map(|s| misfit(root, s, value, at))
                .collect();
            let bad = if word == "allOf" {
                !misfits.is_empty()
            } else {
                misfits.len() == list.len()
            };
            if bad {
                return Some(misfits.join(" or "));
            }
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        return (!words.contains(value)).then(|| format!("{at}: {value} is none of {words:?}"));
    }
    if let Some(only) = schema.get("const") {
        return (only != value).then(|| format!("{at}: {value} is not {only}"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |wanted: &Value| wanted == kind || (wanted == "number" && kind == "integer");
    let allowed = match &schema["type"] {
        one @ Value::String(_) => fits(one),
        Value::Array(many) => many.iter().any(fits),
        _ => true,
    };
    if !allowed {
        return Some(format!("{at}: {value} is not {}", schema["type"]));
    }
    match value {
        Value::Array(items) => items
            .iter()
            .find_map(|item| misfit(root, &schema["items"], item, at)),
        Value::Object(map) => {
            let missing = schema["required"].as_array().into_iter().flatten();
            if let Some(key) = missing
                .filter_map(Value::as_str)
                .find(|k| !map.contains_key(*k))
            {
                return Some(format!("{at}: {key} is missing"));
            }
            map.iter().find_map(|(key, inner)| {
                let at = format!("{at}.{key}");
                match (
                    schema["properties"].get(key),
                    &schema["additionalProperties"],
                ) {
                    (Some(property), _) => misfit(root, property, inner, &at),
                    (None, Value::Bool(false)) => Some(format!("{at} is unknown")),
                    (None, Value::Object(_)) => {
                        misfit(root, &schema["additionalProperties"], inner, &at)
                    }
                    (None, _) => None,
                }
            })
        }
        _ => None,
    }
}

fn toml_as_json(text: &str) -> Value {
    let value: toml::Value = toml::from_str(text).expect("TOML");
    serde_json::to_value(value).expect("every TOML value has a JSON form")
}

/// The files of each kind that are known to be right.
fn sound_files() -> BTreeMap<&'static str, Vec<(String, String)>> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        (path.display().to_string(), text)
    };
    let mut fleet_files = Vec::new();
    let mut role_files = Vec::new();
    let mut roles_of = |dir: &Path| {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            role_files.push(read(
                entry
                    .expect("a readable directory")
                    .path()
                    .join("role.toml"),
            ));
        }
    };
    for case in cases("valid") {
        fleet_files.push(read(case.join("fleet.toml")));
        roles_of(&case.join("roles"));
    }
    roles_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../roles"));
    for args in [&["init"][..], &["init", "--example"]] {
        let fleet = TestFleet::empty(ROLESMITH);
        fleet.run(&[args, &["--name", "acme"]].concat()).succeeded();
        fleet_files.push((format!("{args:?}"), fleet.read("fleet.toml")));
    }
    BTreeMap::from([("fleet", fleet_files), ("role", role_files)])
}

#[test]
fn schemas_accept_what_is_right() {
    for (kind, files) in sound_files() {
        let schema = schema(kind);
        assert!(files.len() > 5, "{kind}");
        for (path, text) in files {
            assert_eq!(
                misfit(&schema, &schema, &toml_as_json(&text), ""),
                None,
                "{path}"
            );
        }
    }
}

#[test]
fn schemas_refuse_what_the_program_refuses_to_read() {
    for case in cases("invalid") {
        let expected = std::fs::read_to_string(case.join("expect.txt")).unwrap_or_default();
        let found_by_schema = [
            "[toml::unknown-key]",
            "[toml::missing-key]",
            "[toml::type]",
            "[toml::unknown-word]",
        ]
        .iter()
        .any(|code| expected.contains(code));
        let Some(file) = expected.lines().find_map(|l| l.strip_prefix("  at: ")) else {
            continue;
        };
        let file = file.split(':').next().unwrap_or_default();
        if !found_by_schema {
            continue;
        }
        let kind = if file == "fleet.toml" {
            "fleet"
        } else {
            "role"
        };
        let schema = schema(kind);
        let text = std::fs::read_to_string(case.join(file)).expect("the file that is wrong");
        assert!(
            misfit(&schema, &schema, &toml_as_json(&text), "").is_some(),
            "the schema accepts {}",
            name(&case)
        );
    }
}

/// The same with an implementation that knows all of JSON Schema, where the machine has it (python3-jsonschema).
#[test]
fn schemas_are_json_schemas_for_others_too() {
    const CHECK: &str = "import json, sys\nimport jsonschema\nfor schema, values in json.load(sys.stdin):\n    \
        kind = jsonschema.validators.validator_for(schema)\n    kind.check_schema(schema)\n    \
        for value in values:\n        kind(schema).validate(value)\n";
    for (kind, title) in [
        ("fleet", "fleet.toml"),
        ("role", "role.toml"),
        ("perf", "performance line"),
    ] {
        let schema = schema(kind);
        assert_eq!(schema["title"], title);
        assert!(
            schema["$schema"]
                .as_str()
                .is_some_and(|s| s.starts_with("https://json-schema.org/"))
        );
        assert!(schema["properties"].is_object());
    }
    let there = Command::new("python3")
        .args(["-c", "import jsonschema"])
        .output()
        .is_ok_and(|o| o.status.success());
    if !there {
        return;
    }
    let pairs: Vec<Value> = sound_files()
        .into_iter()
        .map(|(kind, files)| {
            let values: Vec<Value> = files.iter().map(|(_, text)| toml_as_json(text)).collect();
            json!([schema(kind), values])
        })
        .collect();
    let input = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(input.path(), serde_json::to_vec(&pairs).expect("JSON")).expect("written");
    let output = Command::new("python3")
        .args(["-c", CHECK])
        .stdin(std::fs::File::open(input.path()).expect("just written"))
        .output()
        .expect("python3 was there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Whoever reads a line finds each of its members explained, and a whole line that the schema accepts.
#[test]
fn performance_lines_are_what_their_page_says() {
    let schema = schema("perf");
    let page = include_str!("../../../../../docs/perf.md");
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let explained = |name: &str| {
        named
            .iter()
            .any(|code| code.trim_end_matches("[]").rsplit('.').next() == Some(name))
    };
    let mut members = BTreeSet::new();
    collect_members(&schema, &mut members);
    assert!(members.len() > 150, "{members:?}");
    let missing: Vec<_> = members.iter().filter(|name| !explained(name)).collect();
    assert!(
        missing.is_empty(),
        "docs/perf.md does not tell of {missing:?}"
    );
    let line: Value =
        serde_json::from_str(include_str!("../../../../../docs/perf-line.json")).expect("JSON");
    assert_eq!(misfit(&schema, &schema, &line, ""), None);
    let typed: rolesmith_model::perf::PerfLine =
        serde_json::from_value(line.clone()).expect("a line");
    let written = serde_json::to_value(typed).expect("JSON");
    assert_eq!(fractions(written), fractions(line));
}

/// JSON has one kind of number: 0 and 0.0 are the same (RFC 8259, 6).
fn fractions(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(values) => values.into_iter().map(fractions).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, fractions(value)))
            .collect(),
        other => other,
    }
}

fn collect_members(schema: &Value, members: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                members.extend(properties.keys().cloned());
            }
            object
                .values()
                .for_each(|value| collect_members(value, members));
        }
        Value::Array(list) => list
            .iter()
            .for_each(|value| collect_members(value, members)),
        _ => {}
    }
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let fleet = TestFleet::empty(ROLESMITH);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = fleet.run(&["completions", shell]);
        run.succeeded();
        for command in ["user-data", "publish", "without-agent"] {
            assert!(
                run.stdout.contains(command),
                "{shell} does not know {command}"
            );
        }
        if shell == "bash" {
            fleet.write("completions.bash", &run.stdout);
            let checked = Command::new("bash")
                .arg("-n")
                .arg(fleet.path("completions.bash"))
                .output()
                .expect("bash is on every Debian machine");
            assert!(
                checked.status.success(),
                "{}",
                String::from_utf8_lossy(&checked.stderr)
            );
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let fleet = TestFleet::empty(ROLESMITH);
    fleet.run(&["man-pages", "man"]).succeeded();
    let pages = fleet.tree();
    let help = fleet.run(&["--help"]).succeeded().stdout.clone();
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() > 8, "{help}");
    for command in commands {
        let page = format!("man/rolesmith-{command}.1");
        assert!(
            pages.0.contains_key(&page),
            "{page} in {:?}",
            pages.0.keys()
        );
        assert!(fleet.read(&page).contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(fleet.read("man/rolesmith.1").contains("Exit status"));
}
