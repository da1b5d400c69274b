//! Lines of an extended description (Policy 5.6.13), no longer than a terminal shows.

/// Columns that are left beside the space which begins every line of the field, so that each stays below 80.
const WIDTH: usize = 78;

/// Breaks paragraphs that have a line too long for a terminal; all others stay as they were written.
///
/// Paragraphs are separated by empty lines. A line that begins with a space is shown as it is (a list, an example) and never
/// joined with another. A word longer than a line, such as a URL, gets a line of its own.
pub(super) fn wrap(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut paragraph: Vec<&str> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() || line.starts_with(' ') {
            flush(&mut paragraph, &mut lines);
            lines.push(line.trim_end().to_owned());
        } else {
            paragraph.push(line);
        }
    }
    flush(&mut paragraph, &mut lines);
    lines.join("\n").trim_end().to_owned()
}

fn flush(paragraph: &mut Vec<&str>, lines: &mut Vec<String>) {
    let fits = |line: &&str| line.trim_end().chars().count() <= WIDTH;
    if paragraph.iter().all(fits) {
        lines.extend(paragraph.drain(..).map(|line| line.trim_end().to_owned()));
        return;
    }
    let mut line = String::new();
    let mut columns = 0;
    for word in paragraph.drain(..).flat_map(str::split_whitespace) {
        let width = word.chars().count();
        if columns > 0 && columns + 1 + width > WIDTH {
            lines.push(std::mem::take(&mut line));
            columns = 0;
        }
        if columns > 0 {
            line.push(' ');
            columns += 1;
        }
        line.push_str(word);
        columns += width;
    }
    lines.push(line);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{WIDTH, wrap};

    #[test]
    fn what_fits_stays_as_it_was_written() {
        let text = "One line\nand another.\n\nA list:\n * first\n * second";
        assert_eq!(wrap(text), text);
    }

    #[test]
    fn a_long_line_is_broken_between_words_and_a_list_beside_it_is_not() {
        let long = "word ".repeat(40);
        let wrapped = wrap(&format!("{long}\nend\n  verbatim   {long}"));
        let mut lines = wrapped.lines().rev();
        assert_eq!(
            lines.next(),
            Some(format!("  verbatim   {}", long.trim_end()).as_str())
        );
        assert!(
            lines.next().is_some_and(|line| line.ends_with("word end")),
            "{wrapped}"
        );
        assert!(lines.all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn a_word_longer_than_a_line_is_not_cut() {
        let url = format!("https://example.org/{}", "a".repeat(100));
        assert_eq!(
            wrap(&format!("see {url} there")),
            format!("see\n{url}\nthere")
        );
    }

    proptest! {
        /// No word is lost, added or moved; no line is too long that could have been shorter; a second pass changes nothing.
        #[test]
        fn only_line_breaks_change(text in "([a-zé]{1,90}[ \n]{0,3}){0,60}") {
            let wrapped = wrap(&text);
            prop_assert!(text.split_whitespace().eq(wrapped.split_whitespace()));
            for line in wrapped.lines().filter(|line| !line.starts_with(' ')) {
                prop_assert!(line.chars().count() <= WIDTH || !line.contains(' '), "{line:?}");
            }
            prop_assert_eq!(wrap(&wrapped), wrapped);
        }
    }
}
