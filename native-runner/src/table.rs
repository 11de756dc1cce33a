//! Columns of text.

/// Lines of aligned columns; those whose number stands in `right` end together, the others begin together.
pub fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            if right.contains(&column) {
                line += &format!("{cell:>width$}  ");
            } else {
                line += &format!("{cell:width$}  ");
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// `1 234 567`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "10".to_owned(), "x".to_owned()], vec!["bcd".to_owned(), "7".to_owned()]];
        assert_eq!(columns(&rows, &[1]), "a    10  x\nbcd   7\n");
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1 000", "1 234 567"]);
    }
}
