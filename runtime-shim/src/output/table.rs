//! Columns, as docker's users see them: three spaces between two, and none
//! narrower than ten.

const NARROWEST: usize = 10;
const BETWEEN: usize = 3;

/// Lines of cells with a tab between two, in columns.
pub fn aligned(lines: &[String]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines.iter().flat_map(|line| line.split('\n')) {
        // The last cell of a line ends it, and is as long as it is.
        let cells = line.split('\t').count() - 1;
        for (at, cell) in line.split('\t').take(cells).enumerate() {
            let width = NARROWEST.max(width(cell) + BETWEEN);
            match widths.get_mut(at) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for line in lines {
        for line in line.split('\n') {
            let mut cells = line.split('\t').enumerate().peekable();
            while let Some((at, cell)) = cells.next() {
                out.push_str(cell);
                if cells.peek().is_some() {
                    let column = widths.get(at).copied().unwrap_or(0);
                    out.extend(std::iter::repeat_n(' ', column.saturating_sub(width(cell))));
                }
            }
            out.push('\n');
        }
    }
    out
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn as_docker_has_them() {
        let lines = ["REPOSITORY\tTAG\tIMAGE ID", "debian\t12\tabc", "a/very/long/name\tlatest\tabc"];
        let lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
        assert_eq!(
            aligned(&lines),
            "REPOSITORY         TAG       IMAGE ID\n\
             debian             12        abc\n\
             a/very/long/name   latest    abc\n"
        );
    }
}
