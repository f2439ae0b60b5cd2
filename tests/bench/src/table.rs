//! Markdown tables that can be read in a terminal too.

/// A table: the first column is text, the others are figures.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has another number of cells than the header.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len(), "one cell for each column");
        self.rows.push(cells);
    }

    /// The table, with columns of even width.
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.rows[0].len())
            .map(|column| {
                self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let cell =
                    if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
                text.push_str(&format!("| {cell} "));
            }
            text.push_str("|\n");
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let end = if column == 0 { '-' } else { ':' };
                    text.push_str(&format!("|{}{end}", "-".repeat(width + 1)));
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_even_width_and_figures_stand_right() {
        let mut table = Table::new(&["work", "µs"]);
        table.row(vec!["GET".to_owned(), "10.5".to_owned()]);
        table.row(vec!["pipelined".to_owned(), "1".to_owned()]);
        let want = "| work      |   µs |\n\
                    |-----------|-----:|\n\
                    | GET       | 10.5 |\n\
                    | pipelined |    1 |\n";
        assert_eq!(table.render(), want);
    }

    #[test]
    #[should_panic(expected = "one cell for each column")]
    fn a_row_that_does_not_fit_is_a_bug() {
        Table::new(&["work", "µs"]).row(vec!["GET".to_owned()]);
    }
}
