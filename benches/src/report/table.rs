//! Rows of text as a table: for the terminal, and in Markdown.

/// Columns padded to their widest cell; the first row is the heading.
pub fn plain(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A Markdown table; the first row is the heading.
pub fn markdown(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
        if number == 0 {
            text.push_str(&format!("|{}\n", "---|".repeat(row.len())));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    fn rows() -> Vec<Vec<String>> {
        [["who", "µs"], ["overlay", "1.5"]].map(|row| row.map(String::from).to_vec()).to_vec()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(super::plain(&rows()), "who      µs\noverlay  1.5\n");
    }

    #[test]
    fn markdown_has_a_rule_below_the_heading() {
        assert_eq!(super::markdown(&rows()), "| who | µs |\n|---|---|\n| overlay | 1.5 |\n");
    }
}
