//! What commands print: bytes to stdout, and a reader that has gone is not an error.

use std::io::{self, Write};

/// Nobody reads the output any more. The command ends in peace: whoever did has seen enough.
#[derive(Debug, thiserror::Error)]
#[error("the output was closed")]
pub(super) struct Closed;

/// Writes `bytes` to stdout and flushes. A closed pipe is [`Closed`], where `println!` would panic.
pub(super) fn print(bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => anyhow::Error::from(Closed),
        _ => anyhow::Error::from(error).context("cannot write the output"),
    })
}

/// Text from a node or a key as it can be shown on a terminal: no control characters.
pub(super) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            visible.extend(character.escape_default());
        } else {
            visible.push(character);
        }
    }
    visible
}

/// Rows of cells, in columns that are as wide as their widest cell. The first column is aligned
/// left, the others right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let column_count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..column_count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            match column {
                0 => line += &format!("{cell:<width$}"),
                _ => line += &format!("  {cell:>width$}"),
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: &[&str]| cells.iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
        let rows = [row(&["name", "keys"]), row(&["ä", "12345"]), row(&["x"])];
        assert_eq!(table(&rows), "name   keys\nä     12345\nx\n");
    }

    #[test]
    fn a_key_cannot_play_with_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jä\n"), "a\\u{1b}[2Jä\\n");
    }
}
