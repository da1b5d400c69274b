//! A seed as cloud-config, and as the files of the data sources NoCloud and ConfigDrive.

use base64::Engine as _;
use rolesmith_model::template;
use serde_json::json;
use tera::Context;

use crate::seed::{Seed, SeedFile};

/// Most bytes of user-data that DigitalOcean takes.
pub const USER_DATA_LIMIT: usize = 64 * 1024;

const TEMPLATE: &str = include_str!("../../../cloud-init/user-data.yaml.tera");

/// Run at every boot by cloud-init's final stage, when everything of the seed has been used: metadata readers find secrets
/// nowhere else on the disk.
const FORGET: &str = include_str!("../../../cloud-init/forget-seed");

/// Where [`FORGET`] is put.
const FORGET_PATH: &str = "/var/lib/cloud/scripts/per-boot/90-rolesmith-forget-seed";

/// Why a seed has no cloud-config.
#[derive(Debug, thiserror::Error)]
pub enum CloudConfigError {
    /// More than providers take.
    #[error(
        "the user-data of {node} has {size} bytes; DigitalOcean takes at most {USER_DATA_LIMIT}"
    )]
    TooLong {
        /// Whose.
        node: String,
        /// How long it is.
        size: usize,
    },
    /// The template in cloud-init/ is wrong.
    #[error("cloud-init/user-data.yaml.tera: {0}")]
    Template(String),
}

/// The seed as `#cloud-config`.
///
/// # Errors
/// [`CloudConfigError::TooLong`] where a provider would cut it off.
pub fn user_data(seed: &Seed) -> Result<String, CloudConfigError> {
    let mut context = Context::new();
    context.insert("fleet", &seed.fleet);
    context.insert("node", &seed.node);
    context.insert("fqdn", &seed.fqdn);
    context.insert(
        "keys",
        &seed
            .admin_ssh_keys
            .iter()
            .map(|k| quote(k))
            .collect::<Vec<_>>(),
    );
    context.insert("masked", &seed.masked_units);
    context.insert(
        "debconf",
        &seed.debconf.iter().map(|a| quote(a)).collect::<Vec<_>>(),
    );
    context.insert("packages", &seed.packages);
    let forget = SeedFile {
        path: FORGET_PATH.into(),
        mode: 0o700,
        owner: "root:root",
        bytes: FORGET.as_bytes().to_vec(),
        secret: false,
    };
    let files: Vec<_> = seed
        .files
        .iter()
        .chain(std::iter::once(&forget))
        .map(file)
        .collect();
    context.insert("files", &files);
    let text =
        template::render(TEMPLATE, &context).map_err(|e| CloudConfigError::Template(e.message))?;
    if text.len() > USER_DATA_LIMIT {
        return Err(CloudConfigError::TooLong {
            node: seed.node.clone(),
            size: text.len(),
        });
    }
    Ok(text)
}

/// The `meta-data` file of a NoCloud data source.
#[must_use]
pub fn meta_data(seed: &Seed) -> String {
    format!(
        "instance-id: {}\nlocal-hostname: {}\n",
        seed.instance_id(),
        seed.node
    )
}

/// The files of a NoCloud data source: paths from its root, and their text.
#[must_use]
pub fn nocloud(seed: &Seed, user_data: &str) -> Vec<(&'static str, String)> {
    vec![
        ("meta-data", meta_data(seed)),
        ("user-data", user_data.to_owned()),
    ]
}

/// The files of a ConfigDrive data source, in the layout of [OpenStack's metadata] that DigitalOcean and others follow.
///
/// There is no `network_data.json`: a machine's network is its provider's to describe, and without one cloud-init asks DHCP on the first
/// interface, as it does with NoCloud.
///
/// [OpenStack's metadata]: https://docs.openstack.org/nova/latest/user/metadata.html
#[must_use]
pub fn config_drive(seed: &Seed, user_data: &str) -> Vec<(&'static str, String)> {
    // cloud-init's instance-id is the `uuid`, which need not look like one.
    let meta_data = json!({
        "uuid": seed.instance_id(),
        "name": seed.node,
        "hostname": seed.node,
    });
    vec![
        ("openstack/latest/meta_data.json", format!("{meta_data}\n")),
        ("openstack/latest/user_data", user_data.to_owned()),
    ]
}

fn file(file: &SeedFile) -> serde_json::Value {
    let lines = block_lines(&file.bytes);
    let base64 = match lines {
        Some(_) => String::new(),
        None => base64::engine::general_purpose::STANDARD.encode(&file.bytes),
    };
    json!({
        "path": file.path,
        "owner": file.owner,
        "mode": format!("{:04o}", file.mode),
        "lines": lines.unwrap_or_default(),
        "base64": base64,
    })
}

/// The lines of a text that a YAML literal block scalar (YAML 1.2 section 8.1.2) gives back unchanged.
fn block_lines(bytes: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let body = text.strip_suffix('\n')?;
    let plain = |c: char| c == '\n' || (c >= ' ' && c != '\u{7f}' && c.is_ascii());
    // A leading space would need an indentation indicator, blank lines at the end a chomping one.
    if body.is_empty()
        || body.starts_with([' ', '\n'])
        || body.ends_with('\n')
        || !body.chars().all(plain)
    {
        return None;
    }
    Some(body.split('\n').collect())
}

/// A YAML double-quoted scalar: JSON strings are such scalars (YAML 1.2 section 1.3).
fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("text has a JSON form")
}
