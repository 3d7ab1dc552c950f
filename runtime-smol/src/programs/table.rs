//! Aligned columns on a terminal. Text from elsewhere cannot upset it.

use std::fmt;

use offset_protocol::files::is_invisible;

/// At which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells; the first row is the heading.
#[derive(Clone, Debug)]
pub struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new(sides: &[Side]) -> Self {
        Table { sides: sides.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the columns are left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().take(self.sides.len()).map(|cell| safe(&cell)).collect());
    }
}

/// Columns two spaces apart, no spaces at line ends, no line end at the end.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> =
            (0..self.sides.len()).map(|column| cells(column).map(|cell| width(cell)).max().unwrap_or(0)).collect();
        for (n, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((cell, side), columns) in row.iter().zip(&self.sides).zip(&widths) {
                let gap = " ".repeat(columns.saturating_sub(width(cell)));
                line += &match side {
                    Side::Left => format!("{cell}{gap}  "),
                    Side::Right => format!("{gap}{cell}  "),
                };
            }
            let end = if n + 1 < self.rows.len() { "\n" } else { "" };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `text` with everything that a terminal would not show as it is written as `?`.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { '?' } else { c }).collect()
}

/// Columns that `text` takes. Combining marks count none, the wide scripts of East Asia and pictures two; the rest one.
fn width(text: &str) -> usize {
    let columns = |c: char| match u32::from(c) {
        0x300..=0x36f | 0x1ab0..=0x1aff | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    };
    text.chars().map(columns).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_script() {
        let mut table = Table::new(&[Side::Left, Side::Right, Side::Left]);
        table.row(["name", "balance", "state"].map(str::to_owned));
        table.row(["李雷", "-5", "open"].map(str::to_owned));
        table.row(["zoe\u{308}", "1000", ""].map(str::to_owned));
        assert_eq!(table.to_string(), "name  balance  state\n李雷       -5  open\nzoe\u{308}      1000");
    }

    #[test]
    fn hostile_names_are_defused() {
        assert_eq!(safe("a\u{1b}[2Jb\u{202e}c\nd"), "a?[2Jb?c?d");
    }

    #[test]
    fn an_empty_table_shows_nothing() {
        assert_eq!(Table::new(&[Side::Left]).to_string(), "");
    }
}
