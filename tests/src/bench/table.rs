//! Tables as Markdown that also reads well on a terminal.

use super::spread::Spread;
use std::fmt::Write;

/// Renders rows, the first of which is the head. Every row has as many cells as the head.
pub fn render(rows: &[Vec<String>]) -> String {
    let Some(head) = rows.first() else {
        return String::new();
    };
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = String::new();
    for row in [head, &rule].into_iter().chain(&rows[1..]) {
        for (cell, width) in row.iter().zip(&widths) {
            write!(text, "| {cell:<width$} ").expect("writing to a string cannot fail");
        }
        text.push_str("|\n");
    }
    text
}

/// A spread as `median [min-max]`.
pub fn spread(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{} [{}-{}]", number(median), number(min), number(max))
}

/// A number with about three digits, and all of those before the point.
pub fn number(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude < 10.0 {
        format!("{number:.2}")
    } else if magnitude < 100.0 {
        format!("{number:.1}")
    } else {
        group_thousands(&format!("{number:.0}"))
    }
}

fn group_thousands(digits: &str) -> String {
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        let left = digits.len() - position;
        if left.is_multiple_of(3) && grouped.ends_with(|last: char| last.is_ascii_digit()) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_under_their_head() {
        let rows =
            [["peer", "requests/s"], ["direct", "9"]].map(|row| row.map(str::to_owned).to_vec());
        let expected = "\
| peer   | requests/s |
| ------ | ---------- |
| direct | 9          |
";
        assert_eq!(render(&rows), expected);
        assert_eq!(render(&[]), "");
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let numbers = [0.123, 9.876, 12.34, 123.4, 1234.5, -1_234_567.0];
        let expected = ["0.12", "9.88", "12.3", "123", "1,234", "-1,234,567"];
        assert_eq!(numbers.map(number), expected);
    }

    #[test]
    fn a_spread_shows_its_ends() {
        let spread_of = Spread::of([1.0, 2.0, 30.0]).unwrap();
        assert_eq!(spread(spread_of), "2.00 [1.00-30.0]");
    }
}
