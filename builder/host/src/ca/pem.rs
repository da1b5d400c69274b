//! PEM (RFC 7468), as far as keys and certificates need it.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The bytes of the first block whose label ends with `label` (`PRIVATE KEY` matches `EC PRIVATE KEY` too). None when
/// there is no such block, or its body is not base64.
pub(crate) fn decode(text: &str, label: &str) -> Option<Vec<u8>> {
    let mut lines = text.lines().map(str::trim);
    let end = lines.find_map(|line| {
        let found = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        found
            .ends_with(label)
            .then(|| format!("-----END {found}-----"))
    })?;
    let mut body = String::new();
    for line in lines {
        if line == end {
            return STANDARD.decode(body).ok();
        }
        body.push_str(line);
    }
    None
}
