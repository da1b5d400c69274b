//! From a line of a rendered file back to the template.

use std::ops::Range;

/// The bytes of the template from which line `number` (from 1) of the rendered text comes, without the blanks around it: a line
/// that stands there as it is, or else the one whose fixed parts it has. None where that cannot be told.
#[must_use]
pub fn line_in_template(template: &str, rendered: &str, number: usize) -> Option<Range<usize>> {
    let wanted = rendered.lines().nth(number.checked_sub(1)?)?.trim();
    if wanted.is_empty() {
        return None;
    }
    let lines: Vec<(Range<usize>, &str)> = spans(template).collect();
    let same: Vec<&Range<usize>> = lines
        .iter()
        .filter(|(_, line)| *line == wanted)
        .map(|(span, _)| span)
        .collect();
    let among =
        |lines: &mut dyn Iterator<Item = &str>| lines.filter(|line| line.trim() == wanted).count();
    match same[..] {
        [] => {
            let fitting = lines
                .iter()
                .filter_map(|(span, line)| Some((fixed_part(line, wanted)?, span)));
            let (longest, span) = fitting.clone().max_by_key(|(length, _)| *length)?;
            let only = fitting.filter(|(length, _)| *length == longest).count() == 1;
            only.then(|| span.clone())
        }
        [only] => Some(only.clone()),
        // Several alike: the order tells, where each of them was rendered once.
        _ if among(&mut rendered.lines()) == same.len() => {
            let before = among(&mut rendered.lines().take(number - 1));
            same.get(before).map(|span| (*span).clone())
        }
        _ => None,
    }
}

/// Each line with its place, without the blanks around it.
fn spans(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let trimmed = line.trim();
        let start = at + line.len() - line.trim_start().len();
        at += line.len();
        (start..start + trimmed.len(), trimmed)
    })
}

/// How much of a template's line is no tag, where the rest of the rendered line can come from its tags.
fn fixed_part(line: &str, rendered: &str) -> Option<usize> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some(begin) = ["{{", "{%"].iter().filter_map(|tag| rest.find(tag)).min() {
        let closing = if rest[begin..].starts_with("{{") {
            "}}"
        } else {
            "%}"
        };
        let end = begin + rest[begin..].find(closing)? + closing.len();
        parts.push(&rest[..begin]);
        rest = &rest[end..];
    }
    if parts.is_empty() {
        // Without a tag it would have been the same line.
        return None;
    }
    let middle = rendered.strip_prefix(parts[0])?.strip_suffix(rest)?;
    let mut left = middle;
    for part in &parts[1..] {
        left = &left[left.find(part)? + part.len()..];
    }
    let length = parts.iter().map(|part| part.len()).sum::<usize>() + rest.len();
    (length > 1).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "\
server {
    listen {{ node.address }}:443 ssl{% if http2 %} http2{% endif %};
    client_max_body_size {{ size }};
    {%- if banned %}
    return 403;
    {%- endif %}
}
server {
    listen {{ node.address }}:80;
    client_max_body_size 0;
}
";

    fn found(rendered: &str, number: usize) -> Option<&'static str> {
        line_in_template(TEMPLATE, rendered, number).map(|span| &TEMPLATE[span])
    }

    #[test]
    fn lines_are_found_by_what_is_fixed_in_them() {
        let rendered = "server {\n    listen 10.0.0.1:443 ssl http2;\n    client_max_body_size 1x;\n    return 403;\n}\n\
                        server {\n    listen 10.0.0.1:80;\n    client_max_body_size 0;\n}\n";
        assert_eq!(
            found(rendered, 2),
            Some("listen {{ node.address }}:443 ssl{% if http2 %} http2{% endif %};")
        );
        assert_eq!(found(rendered, 3), Some("client_max_body_size {{ size }};"));
        assert_eq!(found(rendered, 4), Some("return 403;"));
        assert_eq!(found(rendered, 7), Some("listen {{ node.address }}:80;"));
        assert_eq!(found(rendered, 8), Some("client_max_body_size 0;"));
        // The second of two.
        let second = line_in_template(TEMPLATE, rendered, 6).unwrap();
        assert_eq!(second.start, TEMPLATE.rfind("server {").unwrap());
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        assert_eq!(found("server {\n", 1), None);
        assert_eq!(found("something else;\n", 1), None);
        assert_eq!(found("\n", 1), None);
        assert_eq!(found("return 403;\n", 2), None);
        assert_eq!(found("return 403;\n", 0), None);
        assert_eq!(line_in_template("a {{ x", "a 1", 1), None);
    }
}
