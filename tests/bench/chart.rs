//! The chart of results: a panel for each charted figure, a bar for each relay, as an SVG.

use std::error::Error;
use std::io;

use plotters::coord::Shift;
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::contestants::OURS;
use crate::figures::{Better, Figure};
use crate::loads::Load;
use crate::results::Results;
use crate::table;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const COLUMNS: usize = 2;
const WIDTH: u32 = 920;
/// Height of the title above the panels.
const TITLE_HEIGHT: u32 = 62;
/// Height of a panel's two lines of title and of the space below its bars.
const PANEL_FRAME: u32 = 66;
const BAR_HEIGHT: u32 = 23;
/// Width of the column of relay names.
const NAMES_WIDTH: u32 = 116;
/// Share of a panel's width that the longest bar leaves for its number.
const NUMBER_SHARE: f64 = 0.16;
/// Longest bar, as a multiple of the next one. A longer bar is cut, or it would hide how the others differ.
const OUTLIER: f64 = 2.5;

const OURS_COLOR: RGBColor = RGBColor(0x0b, 0x6e, 0x99);
const PEER_COLOR: RGBColor = RGBColor(0xb4, 0xbc, 0xc4);
const TEXT_COLOR: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const FAINT_COLOR: RGBColor = RGBColor(0x5f, 0x68, 0x70);

/// Draws the medians of `relays` into the file at `path`.
pub fn draw(results: &Results, relays: &[&'static str], caption: &str, path: &str) -> io::Result<()> {
    draw_all(results, relays, caption, path).map_err(|error| io::Error::other(error.to_string()))
}

fn draw_all(results: &Results, relays: &[&'static str], caption: &str, path: &str) -> Drawn {
    let figures: Vec<_> =
        Load::ALL.iter().flat_map(|load| load.figures()).filter(|figure| figure.is_charted).collect();
    let rows = figures.len().div_ceil(COLUMNS);
    let panel_height = PANEL_FRAME + BAR_HEIGHT * u32::try_from(relays.len())?;
    let height = TITLE_HEIGHT + panel_height * u32::try_from(rows)?;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, panels) = root.split_vertically(TITLE_HEIGHT);
    title.draw(&Text::new("tcprelay and its peers", (16, 14), text(24).color(&TEXT_COLOR)))?;
    title.draw(&Text::new(
        format!("{caption}. A bar with » was cut."),
        (16, 42),
        text(15).color(&FAINT_COLOR),
    ))?;
    for (figure, panel) in figures.into_iter().zip(panels.split_evenly((rows, COLUMNS))) {
        draw_panel(results, relays, figure, &panel)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(results: &Results, relays: &[&'static str], figure: &Figure, panel: &Area) -> Drawn {
    // The axis of the bars points upwards, so the first relay comes last.
    let bars: Vec<_> = relays.iter().rev().map(|&relay| (relay, results.median(figure, relay))).collect();
    let end = longest_bar(&bars);
    let better = match figure.better {
        Better::Less => "less is better",
        Better::More => "more is better",
    };
    let unit = format!("{}, {better}", figure.unit);
    panel.draw(&Text::new(figure.name, (16, 10), text(17).color(&TEXT_COLOR)))?;
    panel.draw(&Text::new(unit, (16, 31), text(14).color(&FAINT_COLOR)))?;
    let mut chart = ChartBuilder::on(panel)
        .margin_top(50)
        .margin_right(16)
        .margin_bottom(12)
        .y_label_area_size(NAMES_WIDTH)
        .build_cartesian_2d(0.0..end / (1.0 - NUMBER_SHARE), (0..bars.len() - 1).into_segmented())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .disable_x_axis()
        .y_labels(bars.len())
        .y_label_style(text(15).color(&TEXT_COLOR))
        .y_label_formatter(&|position| name_at(&bars, position))
        // Invisible: the axis and its ticks only keep the names off the bars.
        .axis_style(TRANSPARENT)
        .set_all_tick_mark_size(5)
        .draw()?;
    chart.draw_series(
        bars.iter().enumerate().filter_map(|(row, &(relay, value))| Some(bar(row, relay, value?.min(end)))),
    )?;
    chart.draw_series(bars.iter().enumerate().filter_map(|(row, &(_, value))| {
        let value = value?;
        let mark = if value > end { "» " } else { "" };
        let label = Text::new(format!("{mark}{}", table::number(value)), (5, 0), number_style());
        Some(EmptyElement::at((value.min(end), SegmentValue::CenterOf(row))) + label)
    }))?;
    Ok(())
}

/// Returns the length of the longest bar: the greatest value, unless that is an outlier.
fn longest_bar(bars: &[(&str, Option<f64>)]) -> f64 {
    let mut values: Vec<_> = bars.iter().filter_map(|&(_, value)| value).collect();
    values.sort_by(f64::total_cmp);
    match values[..] {
        [.., next, greatest] => greatest.min(next * OUTLIER),
        [only] => only,
        [] => 1.0,
    }
}

fn bar(row: usize, relay: &str, length: f64) -> Rectangle<(f64, SegmentValue<usize>)> {
    let color = if relay == OURS { OURS_COLOR } else { PEER_COLOR };
    let corners = [(0.0, SegmentValue::Exact(row)), (length, SegmentValue::Exact(row + 1))];
    let mut bar = Rectangle::new(corners, color.filled());
    bar.set_margin(3, 3, 0, 0);
    bar
}

fn name_at(bars: &[(&str, Option<f64>)], position: &SegmentValue<usize>) -> String {
    match position {
        SegmentValue::CenterOf(row) => bars.get(*row).map_or("", |&(relay, _)| relay).to_owned(),
        _ => String::new(),
    }
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_text_style(&(WIDTH, WIDTH))
}

fn number_style() -> TextStyle<'static> {
    text(15).color(&TEXT_COLOR).pos(Pos::new(HPos::Left, VPos::Center))
}
