//! Text for a terminal of any width.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, LineStyle, Table, presets::ASCII_NO_BORDERS};

/// Columns where there is no terminal to ask, such as in a pipe.
const WIDTH: u16 = 100;

/// Columns of the terminal that standard output goes to.
pub(crate) fn width() -> u16 {
    Table::new().width().unwrap_or(WIDTH)
}

/// An empty table that keeps to a width, ruled between rows that have several lines. Its lines are ASCII, because a
/// terminal set to Chinese may draw box characters two columns wide.
pub(crate) fn table(width: u16, ruled: bool) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_NO_BORDERS);
    if !ruled {
        table.style_mut().row_separator = LineStyle::none();
    }
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width);
    table
}

/// The lines of a table without blanks at their ends.
pub(crate) fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Asks on standard error and reads a line; nothing where nobody sits at a terminal.
pub(crate) fn ask(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(plain(question).as_bytes()).and_then(|()| stderr.flush());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}

/// Text from elsewhere without what would steer the terminal; line ends stay.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// A line cut to so many columns, of which a Chinese character takes two.
pub(crate) fn cut(line: &str, width: u16) -> String {
    let columns = |c: char| if c >= '\u{1100}' { 2 } else { 1 };
    let width = usize::from(width);
    if line.chars().map(columns).sum::<usize>() <= width {
        return line.to_owned();
    }
    let mut used = 2;
    let kept = line.chars().take_while(|c| {
        used += columns(*c);
        used <= width
    });
    kept.collect::<String>() + "…"
}

/// `1 letter`, `2 letters`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_can_t_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{9b}d\u{7f}"), "a\u{fffd}[2Jb\nc\u{fffd}d\u{fffd}");
    }
}
