//! The table of results, in Markdown that is also readable as it is.

use crate::contestants::OURS;
use crate::loads::{Better, Figure, Load};
use crate::results::Results;

/// A row for each figure: the value of each relay, then ours divided by the best peer's.
pub fn render(results: &Results, loads: &[Load], relays: &[&'static str]) -> String {
    let figures = loads.iter().flat_map(|load| load.figures());
    let mut rows = vec![header(relays), Vec::new()];
    rows.extend(figures.map(|figure| row(results, figure, relays)));
    let widths: Vec<_> = (0..rows[0].len()).map(|column| width(&rows, column)).collect();
    rows[1] = widths.iter().enumerate().map(|(column, &width)| rule(column, width)).collect();
    rows.iter().map(|row| line(row, &widths)).collect()
}

/// Two significant digits at least, four at most.
pub fn number(value: f64) -> String {
    let decimals = match value {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn header(relays: &[&'static str]) -> Vec<String> {
    let fixed = ["", "unit", "better"].into_iter();
    let cells = fixed.chain(relays.iter().copied()).map(str::to_owned);
    cells.chain([format!("{OURS} / best peer")]).collect()
}

fn row(results: &Results, figure: &Figure, relays: &[&'static str]) -> Vec<String> {
    let better = match figure.better {
        Better::Less => "less",
        Better::More => "more",
    };
    let fixed = [figure.name, figure.unit, better].into_iter().map(str::to_owned);
    let values = relays.iter().map(|relay| cell(results.median(figure, relay)));
    fixed.chain(values).chain([ratio(results, figure, relays)]).collect()
}

fn ratio(results: &Results, figure: &Figure, relays: &[&'static str]) -> String {
    let ours = results.median(figure, OURS);
    let ratio = ours.zip(results.best_peer(figure, relays)).map(|(ours, best)| ours / best);
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// Numbers are aligned to the right, words to the left.
fn is_word(column: usize) -> bool {
    column < 3
}

fn rule(column: usize, width: usize) -> String {
    if is_word(column) { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, &width))| {
        if is_word(column) { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") }
    });
    cells.chain(["|\n".to_owned()]).collect()
}

fn width(rows: &[Vec<String>], column: usize) -> usize {
    rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
}
