//! The matrix as text.

use super::{
    groups::{Groups, cell, head, notes, wrapped},
    matrix::Matrix,
};

/// Most characters of the names in a cell.
const NAMES: usize = 22;
/// Most characters of the names above a column.
const HEAD: usize = 14;

impl Matrix {
    /// For people, in lines that fit a terminal: nodes and members that are alike stand together.
    #[must_use]
    pub fn text(&self) -> String {
        let groups = Groups::of(self);
        let heads: Vec<Vec<String>> = groups.columns.iter().map(|c| head(c, HEAD)).collect();
        let height = heads.iter().map(Vec::len).max().unwrap_or_default();
        // Heads stand on the lines below them.
        let bottom = |mut lines: Vec<String>| {
            lines.splice(
                0..0,
                vec![String::new(); height.saturating_sub(lines.len())],
            );
            lines
        };
        let mut rows = vec![
            ["port", "opening", "on"]
                .map(|word| vec![word.to_owned()])
                .into_iter()
                .chain(heads)
                .map(bottom)
                .collect::<Vec<_>>(),
        ];
        for line in &groups.lines {
            let on = if line.on.is_empty() {
                vec!["every node".to_owned()]
            } else {
                wrapped(&line.on, NAMES)
            };
            let cells = line.cells.iter().map(|c| vec![cell(*c).to_owned()]);
            let mut row = vec![vec![line.port.clone()], vec![line.name.clone()], on];
            row.extend(cells);
            rows.push(row);
        }
        let mut out = format!("fleet {}: who may reach what\n\n", self.fleet);
        out.push_str(&layout(&rows));
        out.push('\n');
        for note in notes(&groups) {
            out.push_str(note);
            out.push('\n');
        }
        out
    }
}

/// Rows of cells of lines, in columns two blanks apart.
fn layout(rows: &[Vec<Vec<String>>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let lines = rows.iter().filter_map(|row| row.get(column)).flatten();
        lines
            .map(|line| line.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let height = row.iter().map(Vec::len).max().unwrap_or_default();
        for number in 0..height {
            let line: String = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| {
                    format!("{:<width$}  ", cell.get(number).map_or("", String::as_str))
                })
                .collect();
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}
