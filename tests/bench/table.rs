//! The table of results, in Markdown that is also readable as plain text.

use crate::contestants::{Contestant, FLOOR, OURS};
use crate::figures::{Better, Figure};
use crate::loads::Load;
use crate::results::{Ratio, Results};

/// Columns of words: name, unit, which is better.
const WORDS: usize = 3;

/// Returns a table with a row for each figure: the value of each contestant, then ours as a multiple of the
/// best peer's and of the floor's.
pub fn render(results: &Results, loads: &[Load], contestants: &[Contestant]) -> String {
    let figures = loads.iter().flat_map(|load| load.figures());
    let mut rows = vec![header(contestants)];
    rows.extend(figures.map(|figure| row(results, figure, contestants)));
    lay_out(rows, WORDS)
}

/// Lays out cells as a table. The first row is the header, and the first `words` columns are aligned to the
/// left.
pub fn lay_out(mut rows: Vec<Vec<String>>, words: usize) -> String {
    let widths: Vec<_> = (0..rows[0].len()).map(|column| width(&rows, column)).collect();
    let rule = |(column, &width)| rule(column < words, width);
    rows.insert(1, widths.iter().enumerate().map(rule).collect());
    rows.iter().map(|row| line(row, &widths, words)).collect()
}

/// Formats a value with three significant digits or more, or with three decimals if it is below 1.
pub fn number(value: f64) -> String {
    let decimals = match value {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn header(contestants: &[Contestant]) -> Vec<String> {
    let names = contestants.iter().map(|contestant| contestant.name);
    let cells = ["", "unit", "better"].into_iter().chain(names).map(str::to_owned);
    cells.chain([format!("{OURS} / best peer"), format!("{OURS} / {FLOOR}")]).collect()
}

fn row(results: &Results, figure: &Figure, contestants: &[Contestant]) -> Vec<String> {
    let better = match figure.better {
        Better::Less => "less",
        Better::More => "more",
    };
    let fixed = [figure.name, figure.unit, better].into_iter().map(str::to_owned);
    let medians = contestants.iter().map(|contestant| results.median(figure, contestant.name));
    let values = medians.map(|median| median.map_or_else(nothing, number));
    let best = results.best_peer(figure, contestants).and_then(|best| results.ratio(figure, OURS, best));
    let ratios = [best, results.ratio(figure, OURS, FLOOR)];
    fixed.chain(values).chain(ratios.map(|ratio| ratio.map_or_else(nothing, with_spread))).collect()
}

/// Formats a ratio and its spread, as in `0.96 (0.91–1.02)`.
fn with_spread(ratio: Ratio) -> String {
    let (least, most) = ratio.spread;
    format!("{:.2} ({least:.2}–{most:.2})", ratio.of_medians)
}

fn nothing() -> String {
    "-".to_owned()
}

fn rule(is_word: bool, width: usize) -> String {
    if is_word { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
}

fn line(row: &[String], widths: &[usize], words: usize) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, &width))| {
        if column < words { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") }
    });
    cells.chain(["|\n".to_owned()]).collect()
}

fn width(rows: &[Vec<String>], column: usize) -> usize {
    rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
}
