//! npm's settings as text.

/// The setting of npm that a variable stands for: npm_config_fetch_timeout is fetch-timeout.
pub(super) fn npm_setting(variable: &str) -> Option<String> {
    let name = variable.to_ascii_lowercase();
    Some(name.strip_prefix("npm_config_")?.replace('_', "-"))
}

/// Keys and values of an npmrc.
pub(super) fn npmrc_lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        if line.starts_with(['#', ';', '[']) {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        Some((key.trim(), value.trim().trim_matches(['"', '\''])))
    })
}

/// Names in `${NAME}`, `${NAME-default}` and `${NAME:-default}`.
pub(super) fn named_variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| {
        let inner = rest.split('}').next()?;
        let end = inner
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(inner.len());
        (end > 0).then_some(&inner[..end])
    })
}

/// User and password of a URL.
pub(super) fn login_of(url: &str) -> Option<&str> {
    let place = url.split_once("://")?.1.split('/').next()?;
    Some(place.rsplit_once('@')?.0).filter(|login| !login.is_empty())
}
