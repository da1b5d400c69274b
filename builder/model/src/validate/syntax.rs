//! Syntax checks shared by fleets and roles. Each gives the reason as text that completes "… ".

/// What would end a field, or hide one, in the files that values are written into: control characters, and the separators
/// that some readers take for a line's end (Unicode Standard, 5.8).
fn breaks_a_line(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Policy 5.6.2: `Name <address>`.
///
/// # Errors
/// What is missing.
pub fn maintainer(text: &str) -> Result<(), &'static str> {
    if text.chars().any(breaks_a_line) {
        return Err("holds a control character or a line's end");
    }
    let Some((name, rest)) = text.split_once('<') else {
        return Err("has no address in angle brackets");
    };
    let Some(address) = rest.strip_suffix('>') else {
        return Err("does not end with >");
    };
    if name.trim().is_empty() {
        return Err("has no name before the address");
    }
    if !name.ends_with(' ') || text.contains(',') {
        return Err("is not written as Name <address>");
    }
    match address.split_once('@') {
        Some((user, host))
            if !user.is_empty() && host.contains('.') && !address.contains(char::is_whitespace) =>
        {
            Ok(())
        }
        _ => Err("has no valid mail address"),
    }
}

/// RFC 1123 domain name with at least two labels.
///
/// # Errors
/// What is wrong.
pub fn domain(text: &str) -> Result<(), &'static str> {
    if text.len() > 200 {
        return Err("is longer than 200 characters");
    }
    if !text.contains('.') {
        return Err("has only one label");
    }
    let good = text.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    });
    if good {
        Ok(())
    } else {
        Err("is not a DNS name in lower case")
    }
}

/// A repository URL that apt takes and that carries no credential.
///
/// # Errors
/// What is wrong.
pub fn repository_url(text: &str) -> Result<(), &'static str> {
    let Some(rest) = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
    else {
        return Err("does not begin with http:// or https://");
    };
    let authority = rest.split('/').next().unwrap_or("");
    if authority.is_empty() {
        return Err("has no host");
    }
    if authority.contains('@') {
        return Err("holds a user name or password, which would be published in a package");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['?', '#', '[', ']', '\\', '"'])
    {
        return Err("holds a character that apt's sources cannot carry");
    }
    Ok(())
}

/// A tag of DigitalOcean's; it becomes a part of a URL as it stands.
#[must_use]
pub fn tag(text: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(sound)
}

/// A network interface's name (IFNAMSIZ is 16 with the final zero).
#[must_use]
pub fn interface(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 15
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && text != "lo"
}

/// A line of authorized_keys(5) without options: type, base64, comment.
///
/// # Errors
/// What is wrong.
pub fn ssh_public_key(text: &str) -> Result<(), &'static str> {
    if text.contains("PRIVATE KEY") {
        return Err("is a private key; it must not stand in fleet.toml");
    }
    if text.contains('\n') {
        return Err("is more than one line");
    }
    if text.chars().any(breaks_a_line) {
        return Err("holds a control character or a line's end");
    }
    let mut words = text.split_ascii_whitespace();
    let kind = words.next().unwrap_or("");
    const KINDS: [&str; 6] = [
        "ssh-ed25519",
        "sk-ssh-ed25519@openssh.com",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
    ];
    if kind == "ssh-dss" {
        return Err("is a DSA key, which OpenSSH no longer accepts");
    }
    if !KINDS.contains(&kind) && kind != "sk-ecdsa-sha2-nistp256@openssh.com" {
        return Err("does not begin with a key type such as ssh-ed25519");
    }
    let data = words.next().unwrap_or("");
    let base64 = data.trim_end_matches('=');
    if base64.len() < 60
        || !base64
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    {
        return Err("has no base64 key after its type");
    }
    let Some(fields) = decode_base64(base64).as_deref().and_then(ssh_fields) else {
        return Err("has a damaged key after its type; was it copied whole?");
    };
    if fields.first().map(Vec::as_slice) != Some(kind.as_bytes()) {
        return Err("says another type before the key than inside it");
    }
    Ok(())
}

/// RFC 4648, section 4, the padding taken off; None for what no encoder writes.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xfff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// The fields of a public key (RFC 4253, 6.6): each its length in four bytes and that many bytes. None where they do not
/// fill it exactly.
fn ssh_fields(mut blob: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut fields = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if length > rest.len() {
            return None;
        }
        let (field, rest) = rest.split_at(length);
        fields.push(field.to_vec());
        blob = rest;
    }
    Some(fields)
}

/// One relation field entry (Policy 7.1): alternatives of `name[:arch] [(op version)] [[arch ...]]`.
/// Gives the names.
///
/// # Errors
/// What is wrong, with the offending part.
pub fn dependency(text: &str) -> Result<Vec<String>, String> {
    if text.trim().is_empty() {
        return Err("is empty".into());
    }
    if text.trim_end().ends_with(',') {
        return Err("ends with a comma".into());
    }
    if text.contains(',') {
        return Err("holds a comma; write each dependency as an element of its own".into());
    }
    if text.contains('\n') {
        return Err("holds a line break".into());
    }
    text.split('|')
        .map(|alternative| relation(alternative.trim()))
        .collect()
}

fn relation(text: &str) -> Result<String, String> {
    let end = text.find([' ', '(', '[']).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let bare = name.split_once(':').map_or(name, |(n, _)| n);
    if name.is_empty() {
        return Err("has nothing where a package's name stands, such as after |".into());
    }
    let good = bare.len() >= 2
        && bare.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && bare
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    if !good {
        return Err(format!(
            "names {bare:?}, which is not a package name (Policy 5.6.1)"
        ));
    }
    rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('(') {
        let (inner, after) = inner.split_once(')').ok_or("has no closing parenthesis")?;
        let version = ["<<", "<=", ">=", ">>", "="]
            .iter()
            .find_map(|op| inner.trim().strip_prefix(op))
            .ok_or_else(|| {
                format!("has {inner:?} in parentheses; write (>= 1.0) with one of << <= = >= >>")
            })?
            .trim();
        if version.parse::<debversion::Version>().is_err()
            || !version.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(format!(
                "has {version:?}, which is not a version (Policy 5.6.12)"
            ));
        }
        rest = after.trim_start();
    }
    let architectures = rest.starts_with('[') && rest.ends_with(']');
    if !rest.is_empty() && !architectures {
        return Err(format!(
            "has {rest:?} after the package, which is not a relation"
        ));
    }
    Ok(bare.to_owned())
}

/// An absolute path as a package may hold it: no empty, `.` or `..` part, no slash at the end.
///
/// # Errors
/// What is wrong.
pub fn absolute_path(text: &str) -> Result<(), &'static str> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("is not absolute");
    };
    if rest.is_empty() || rest.ends_with('/') {
        return Err("names a directory");
    }
    relative_parts(rest)
}

/// A path below a directory: relative, no empty, `.` or `..` part.
///
/// # Errors
/// What is wrong.
pub fn relative_path(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.starts_with('/') {
        return Err("is absolute");
    }
    relative_parts(text)
}

fn relative_parts(text: &str) -> Result<(), &'static str> {
    for part in text.split('/') {
        match part {
            ".." => return Err("leaves its directory with .."),
            "." | "" => return Err("holds an empty part or a dot"),
            _ => {}
        }
    }
    if text.contains(['\0', '\n', '\r']) {
        return Err("holds a control character");
    }
    Ok(())
}

/// The suffixes that systemd.unit(5) knows and that a package may ship.
pub const UNIT_TYPES: [&str; 8] = [
    "service",
    "socket",
    "timer",
    "path",
    "target",
    "mount",
    "slice",
    "automount",
];

/// Whether `name` is a unit's name (systemd.unit(5)).
#[must_use]
pub fn unit_name(name: &str) -> bool {
    let Some((stem, kind)) = name.rsplit_once('.') else {
        return false;
    };
    !stem.is_empty()
        && name.len() <= 255
        && stem
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
        && UNIT_TYPES.contains(&kind)
}

/// A user or group that Debian's tools take (useradd(8)): at most 32 lower-case letters, digits, hyphens, underscores.
#[must_use]
pub fn user_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// A name that templates can read behind a dot.
#[must_use]
pub fn variable_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Octal permission bits of at most four digits.
#[must_use]
pub fn mode(text: &str) -> Option<u32> {
    if text.len() < 3 || text.len() > 4 {
        return None;
    }
    u32::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maintainers() {
        assert!(maintainer("Ops <ops@example.com>").is_ok());
        for bad in [
            "Ops",
            "<ops@example.com>",
            "Ops <ops>",
            "Ops <ops@example.com",
            "Ops<ops@example.com>",
        ] {
            assert!(maintainer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_that_ends_a_line_gets_into_a_field() {
        for end in [
            '\n', '\r', '\u{b}', '\u{85}', '\u{2028}', '\u{2029}', '\0', '\u{1b}',
        ] {
            assert!(
                maintainer(&format!("Ops{end}X <ops@example.com>")).is_err(),
                "{end:?}"
            );
            let key = format!("{KEY} ops{end}ssh-rsa");
            assert!(ssh_public_key(&key).is_err(), "{end:?}");
        }
        assert!(maintainer("Jörg Müller <joerg@example.com>").is_ok());
    }

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ";

    #[test]
    fn keys_are_whole_and_of_the_type_they_say() {
        assert!(ssh_public_key(KEY).is_ok());
        assert!(ssh_public_key(&format!("{KEY} ops@example.com")).is_ok());
        let other = KEY.replace("ssh-ed25519", "ssh-rsa");
        assert_eq!(
            ssh_public_key(&other),
            Err("says another type before the key than inside it")
        );
        for cut in 1..8 {
            let short = &KEY[..KEY.len() - cut];
            assert!(ssh_public_key(short).is_err(), "{short}");
        }
    }

    #[test]
    fn dependencies() {
        assert_eq!(
            dependency("nginx (>= 1.22) | caddy").unwrap(),
            ["nginx", "caddy"]
        );
        assert_eq!(dependency("python3:any").unwrap(), ["python3"]);
        for bad in [
            "",
            "a,b",
            "Nginx",
            "nginx (1.2)",
            "nginx (>= x)",
            "nginx foo",
            "nginx |",
        ] {
            assert!(dependency(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths() {
        assert!(absolute_path("/etc/x").is_ok());
        for bad in [
            "etc/x",
            "/etc/../x",
            "/etc//x",
            "/etc/",
            "/",
            "/etc/./x",
            "/a\nb",
        ] {
            assert!(absolute_path(bad).is_err(), "{bad}");
        }
        assert!(relative_path("files/x").is_ok());
        assert!(relative_path("../x").is_err());
    }

    #[test]
    fn units() {
        assert!(unit_name("rolesmith-redis.service") && unit_name("getty@tty1.service"));
        assert!(!unit_name("redis") && !unit_name(".service") && !unit_name("a b.service"));
    }

    #[test]
    fn urls() {
        assert!(repository_url("http://10.77.0.1/").is_ok());
        for bad in [
            "ftp://x/",
            "http://",
            "https://user:pass@x/",
            "http://x/a b",
        ] {
            assert!(repository_url(bad).is_err(), "{bad}");
        }
    }
}
