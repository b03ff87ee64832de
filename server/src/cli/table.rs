//! Tables that fit a terminal. Nothing is cut off: what is too long for its column is wrapped,
//! since half of an identity is another identity.

/// What stands between two columns.
const GAP: &str = "  ";

/// No column is made narrower than this.
const MIN_WIDTH: usize = 14;

/// A table under this header, at most `width` columns wide if that can be.
pub(super) fn render<const N: usize>(
    header: [&str; N],
    rows: &[[String; N]],
    width: Option<usize>,
) -> String {
    let header = header.map(str::to_owned);
    let mut widths = natural_widths(std::iter::once(&header).chain(rows));
    if let Some(width) = width {
        shrink(&mut widths, width.saturating_sub(GAP.len() * N.saturating_sub(1)));
    }
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        write_row(row, &widths, &mut text);
    }
    text
}

fn natural_widths<'a, const N: usize>(rows: impl Iterator<Item = &'a [String; N]>) -> [usize; N] {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            let longest = cell.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            *width = longest.max(*width);
        }
    }
    widths
}

/// Takes from the widest column until all fit into `limit`, or none can give any more.
fn shrink(widths: &mut [usize], limit: usize) {
    while widths.iter().sum::<usize>() > limit {
        let Some(widest) = widths.iter_mut().max().filter(|width| **width > MIN_WIDTH) else {
            return;
        };
        *widest -= 1;
    }
}

fn write_row(row: &[String], widths: &[usize], text: &mut String) {
    let cells: Vec<Vec<String>> =
        row.iter().zip(widths).map(|(cell, width)| wrap(cell, *width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for index in 0..height {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let part = cell.get(index).map_or("", String::as_str);
            line.push_str(&format!("{part:<width$}{GAP}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// The cell in lines of at most `width`, broken behind a separator where one is near the end.
fn wrap(cell: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in cell.lines() {
        let mut rest: Vec<char> = line.chars().collect();
        while rest.len() > width {
            let head = rest.get(..width).unwrap_or_default();
            let behind = head.iter().rposition(|c| matches!(c, '/' | ':' | ',' | ' ' | '-'));
            let end = behind.map_or(width, |at| at + 1);
            let end = if end * 2 > width { end } else { width };
            lines.push(rest.drain(..end).collect());
        }
        lines.push(rest.into_iter().collect());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<[String; 2]> {
        vec![
            ["spiffe://example.org/ns/shop/web".into(), "unix:uid:1000\nunix:user:web".into()],
            ["spiffe://example.org/b".into(), "k8s:ns:a-very-long-name-of-one-word".into()],
        ]
    }

    #[track_caller]
    fn check(width: Option<usize>, expected: &str) {
        assert_eq!(render(["SPIFFE ID", "SELECTORS"], &rows(), width), expected);
    }

    #[test]
    fn a_table_is_as_wide_as_it_needs_to_be() {
        check(
            None,
            "SPIFFE ID                         SELECTORS\n\
             spiffe://example.org/ns/shop/web  unix:uid:1000\n\
             \u{20}                                 unix:user:web\n\
             spiffe://example.org/b            k8s:ns:a-very-long-name-of-one-word\n",
        );
    }

    #[test]
    fn a_narrow_table_loses_nothing() {
        check(
            Some(44),
            "SPIFFE ID              SELECTORS\n\
             spiffe://example.org/  unix:uid:1000\n\
             ns/shop/web            unix:user:web\n\
             spiffe://example.org/  k8s:ns:a-very-long-\n\
             b                      name-of-one-word\n",
        );
        let narrow = render(["SPIFFE ID", "SELECTORS"], &rows(), Some(1));
        let longest = narrow.lines().map(|line| line.chars().count()).max();
        assert_eq!(longest, Some(MIN_WIDTH * 2 + GAP.len()), "{narrow}");
    }
}
