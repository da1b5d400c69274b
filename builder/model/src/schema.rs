//! JSON Schemas: of the files that people write, for editors that check while one types, and of what programs read.

/// The schema of role.toml.
#[must_use]
pub fn role() -> String {
    pretty(&schemars::schema_for!(crate::role_file::RoleFile))
}

/// The schema of fleet.toml.
#[must_use]
pub fn fleet() -> String {
    pretty(&schemars::schema_for!(crate::fleet_file::FleetFile))
}

/// The schema of image.toml.
#[must_use]
pub fn image() -> String {
    pretty(&schemars::schema_for!(crate::image_file::ImageFile))
}

/// The schema of a performance line.
#[must_use]
pub fn perf() -> String {
    pretty(&schemars::schema_for!(crate::perf::PerfLine))
}

fn pretty(schema: &schemars::Schema) -> String {
    let mut text = serde_json::to_string_pretty(schema).expect("a schema has a JSON form");
    text.push('\n');
    text
}
