//! Tables with colours, for a person at a terminal; without colours for everybody else.

use super::output::visible;
use std::io::IsTerminal as _;

/// Whether colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    On,
    Off,
}

impl Colours {
    /// On where stdout is a terminal and nobody said `NO_COLOR`.
    pub(super) fn of_stdout() -> Colours {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stdout().is_terminal() && !is_refused { Colours::On } else { Colours::Off }
    }
}

/// What a text is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Head,
    Good,
    Bad,
    Faint,
}

impl Paint {
    /// `text` in this colour.
    pub(super) fn on(self, text: &str, colours: Colours) -> String {
        let code = match self {
            _ if colours == Colours::Off => return text.to_owned(),
            Paint::Plain => return text.to_owned(),
            Paint::Head => "1",
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// Text from anywhere: what would play with the terminal is escaped.
    pub(super) fn new(text: impl AsRef<str>) -> Cell {
        Cell { text: visible(text.as_ref()), paint: Paint::Plain }
    }

    pub(super) fn painted(self, paint: Paint) -> Cell {
        Cell { paint, ..self }
    }
}

/// On which side the cells of a column begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows under a head. Columns are as wide as their widest cell.
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Side)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(super) fn push(&mut self, row: Vec<Cell>) {
        debug_assert!(row.len() <= self.columns.len(), "each cell has a column");
        self.rows.push(row);
    }

    pub(super) fn text(&self, colours: Colours) -> String {
        let head: Vec<Cell> =
            self.columns.iter().map(|(name, _)| Cell::new(name).painted(Paint::Faint)).collect();
        let rows: Vec<&Vec<Cell>> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[column] - cell.text.chars().count());
                let shown = cell.paint.on(&cell.text, colours);
                let (before, after) = match self.columns[column].1 {
                    Side::Left => ("", gap.as_str()),
                    Side::Right => (gap.as_str(), ""),
                };
                let space = if column == 0 { "" } else { "  " };
                line += &format!("{space}{before}{shown}{after}");
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_colours_and_without() {
        let mut table = Table::new(&[("node", Side::Left), ("lag", Side::Right), ("", Side::Left)]);
        table.push(vec![Cell::new("ä"), Cell::new("12 ms"), Cell::new("up").painted(Paint::Good)]);
        table.push(vec![Cell::new("porto"), Cell::new("5 ms")]);
        let plain = table.text(Colours::Off);
        assert_eq!(plain, "node     lag\nä      12 ms  up\nporto   5 ms\n");
        let painted = table.text(Colours::On);
        assert!(painted.contains("\u{1b}[32mup\u{1b}[0m"), "{painted:?}");
        let stripped = ["\u{1b}[32m", "\u{1b}[2m", "\u{1b}[0m"]
            .iter()
            .fold(painted, |text, code| text.replace(code, ""));
        let lines = |text: &str| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&stripped), lines(&plain));
    }

    #[test]
    fn a_name_cannot_play_with_the_terminal() {
        let mut table = Table::new(&[("node", Side::Left)]);
        table.push(vec![Cell::new("a\u{1b}[2J")]);
        assert!(!table.text(Colours::Off).contains('\u{1b}'));
    }
}
