//! The matrix as a picture (SVG 1.1): text stays text, and the same matrix gives the same bytes.

use std::fmt::{Display, Write as _};

use super::{
    groups::{Groups, Line, cell, head, notes, wrapped},
    matrix::Matrix,
};

// Pixels. In a monospaced font a character is 0.6 of its size wide, so nothing has to be measured.
const SIZE: usize = 13;
const CHARACTER: usize = 8;
const LINE: usize = 17;
const PAD: usize = 10;
const MARGIN: usize = 20;
/// Most characters of the names in a cell, and above a column.
const NAMES: usize = 26;
const HEAD: usize = 18;

/// Colours of paper, and of a screen at night. The picture brings its own ground, so that it can be read on any page.
const STYLE: &str = "\
text{font-family:ui-monospace,\"DejaVu Sans Mono\",Menlo,Consolas,monospace;font-size:13px;fill:#1d1f21}
.title{font-size:16px;font-weight:bold}.head{font-weight:bold}.cell{text-anchor:middle}.faint{fill:#6a6f74}
.paper{fill:#fbfbf9}.band{fill:#f2f2ee}.open{fill:#cfe6d4}.public{fill:#f6d9c0}.rule{stroke:#dcdcd6}
@media (prefers-color-scheme:dark){
text{fill:#e6e6e3}.faint{fill:#9aa0a6}
.paper{fill:#1b1d1f}.band{fill:#232628}.open{fill:#27503a}.public{fill:#6b4526}.rule{stroke:#3a3d40}}";

impl Matrix {
    /// A picture for a page or a printer, in light and dark as the reader has it.
    #[must_use]
    pub fn svg(&self) -> String {
        let groups = Groups::of(self);
        Picture::new(self, &groups).draw()
    }
}

struct Picture<'a> {
    fleet: &'a str,
    groups: &'a Groups,
    heads: Vec<Vec<String>>,
    /// Lines of names, a row each.
    on: Vec<Vec<String>>,
    /// Left edges of the columns and, last, the right edge of all.
    edges: Vec<usize>,
}

impl<'a> Picture<'a> {
    fn new(matrix: &'a Matrix, groups: &'a Groups) -> Self {
        let on: Vec<Vec<String>> = groups
            .lines
            .iter()
            .map(|line| match line.on.is_empty() {
                true => vec!["every node".to_owned()],
                false => wrapped(&line.on, NAMES),
            })
            .collect();
        let heads: Vec<Vec<String>> = groups.columns.iter().map(|c| head(c, HEAD)).collect();
        let longest = |texts: &mut dyn Iterator<Item = &String>| {
            texts
                .map(|text| text.chars().count())
                .max()
                .unwrap_or_default()
        };
        let lines = &groups.lines;
        let mut widths = vec![
            longest(&mut lines.iter().map(|line| &line.port)),
            longest(&mut lines.iter().map(|line| &line.name)),
            longest(&mut on.iter().flatten()),
        ];
        widths.extend(heads.iter().map(|head| longest(&mut head.iter()).max(8)));
        let mut edges = vec![MARGIN];
        for width in widths {
            edges.push(edges[edges.len() - 1] + width.max(4) * CHARACTER + 2 * PAD);
        }
        Self {
            fleet: &matrix.fleet,
            groups,
            heads,
            on,
            edges,
        }
    }

    fn draw(&self) -> String {
        let notes = notes(self.groups);
        let longest = notes.iter().map(|note| note.chars().count()).max();
        let right = self.edges[self.edges.len() - 1];
        let width = right.max(MARGIN + longest.unwrap_or_default() * CHARACTER) + MARGIN;
        let mut body = String::new();
        let mut top = MARGIN + 2 * LINE;
        top = self.draw_heads(top, &mut body);
        for (number, line) in self.groups.lines.iter().enumerate() {
            top = self.draw_line(number, line, top, &mut body);
        }
        rule(self.edges[0], right, top, &mut body);
        top += PAD;
        for note in notes {
            top += LINE;
            text("faint", self.edges[0], top, note, &mut body);
        }
        let height = top + MARGIN;
        let title = format!("fleet {}: who may reach what", self.fleet);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title\">\n\
             <title id=\"title\">{}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\n",
            escaped(&title)
        );
        text("title", self.edges[0], MARGIN + SIZE, &title, &mut out);
        out.push_str(&body);
        out.push_str("</svg>\n");
        out
    }

    /// Heads stand on the lines below them.
    fn draw_heads(&self, top: usize, out: &mut String) -> usize {
        let height = self.heads.iter().map(Vec::len).max().unwrap_or_default();
        let bottom = top + height * LINE;
        for (column, word) in ["port", "opening", "on"].into_iter().enumerate() {
            text("head", self.edges[column] + PAD, bottom - 5, word, out);
        }
        for (column, lines) in self.heads.iter().enumerate() {
            for (number, line) in lines.iter().enumerate() {
                let y = bottom - 5 - (lines.len() - 1 - number) * LINE;
                text("head cell", self.middle(3 + column), y, line, out);
            }
        }
        bottom
    }

    fn draw_line(&self, number: usize, line: &Line, top: usize, out: &mut String) -> usize {
        let on = &self.on[number];
        let height = on.len().max(1) * LINE + PAD / 2;
        let (left, right) = (self.edges[0], self.edges[self.edges.len() - 1]);
        if number % 2 == 1 {
            rect("band", (left, top), (right - left, height), out);
        }
        rule(left, right, top, out);
        let first = top + LINE - 2;
        text("", left + PAD, first, &line.port, out);
        text("", self.edges[1] + PAD, first, &line.name, out);
        for (number, names) in on.iter().enumerate() {
            text("", self.edges[2] + PAD, first + number * LINE, names, out);
        }
        // What the internet may reach is what one looks for first.
        for (column, access) in line.cells.iter().enumerate() {
            let (edge, next) = (self.edges[3 + column], self.edges[4 + column]);
            let word = cell(*access);
            let open = access.0 || access.1;
            if open {
                let class = if column == 0 { "public" } else { "open" };
                rect(
                    class,
                    (edge + 2, top + 2),
                    (next - edge - 4, height - 4),
                    out,
                );
            }
            let class = if open { "cell" } else { "cell faint" };
            text(class, self.middle(3 + column), first, word, out);
        }
        top + height
    }

    fn middle(&self, column: usize) -> usize {
        (self.edges[column] + self.edges[column + 1]) / 2
    }
}

fn text(class: &str, x: usize, y: usize, words: impl Display, out: &mut String) {
    let class = if class.is_empty() {
        String::new()
    } else {
        format!(" class=\"{class}\"")
    };
    let words = escaped(&words.to_string());
    let _ = writeln!(out, "<text{class} x=\"{x}\" y=\"{y}\">{words}</text>");
}

fn rect(class: &str, at: (usize, usize), size: (usize, usize), out: &mut String) {
    let ((x, y), (width, height)) = (at, size);
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
    );
}

fn rule(left: usize, right: usize, y: usize, out: &mut String) {
    let _ = writeln!(
        out,
        "<line class=\"rule\" x1=\"{left}\" y1=\"{y}\" x2=\"{right}\" y2=\"{y}\"/>"
    );
}

/// XML 1.0, section 2.4.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
