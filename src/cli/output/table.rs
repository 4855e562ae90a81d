//! Columns for people; the same columns in a pipe.

/// Rows under headings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(in crate::cli) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with one cell for each heading.
    pub(in crate::cli) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headings.len(), "a cell for each heading");
        self.rows.push(cells);
    }

    /// The lines, each column as wide as its widest cell.
    pub(in crate::cli) fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| visible(cell));
            cells.chain([self.headings[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, width) in cells.zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width.saturating_sub(visible(cell)) + 2));
            }
            line.trim_end().to_owned()
        };
        let heading = line(&mut self.headings.iter().copied());
        let rows = self.rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
        std::iter::once(heading).chain(rows).collect()
    }
}

/// Characters that take space: colour codes do not.
fn visible(cell: &str) -> usize {
    let mut count = 0;
    let mut in_code = false;
    for letter in cell.chars() {
        match letter {
            '\x1b' => in_code = true,
            'm' if in_code => in_code = false,
            _ if in_code => {}
            _ => count += 1,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_even_with_colour() {
        let mut table = Table::new(&["ID", "STATE"]);
        table.row(vec!["\x1b[32ma\x1b[0m".into(), "up".into()]);
        table.row(vec!["long-name".into(), "down".into()]);
        assert_eq!(table.lines(), ["ID         STATE", "\x1b[32ma\x1b[0m          up", "long-name  down"]);
    }
}
