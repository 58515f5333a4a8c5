//! The dashboard as a picture, drawn from what Prometheus answers to the queries of its panels.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use super::dashboard::{Look, Panel, Part, Place, filled, layout};
use super::watch::{Series, Watch, now_s};

/// Pixels of a column and of a line of Grafana's grid.
const COLUMN: f64 = 60.0;
const LINE: f64 = 30.0;
const GAP: f64 = 6.0;
const COLOURS: [&str; 8] =
    ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#b877d9", "#5794f2", "#9fa7b3"];
/// A rate over fewer scrapes says nothing.
const RATE: &str = "10s";

/// The time that is drawn, in seconds.
#[derive(Clone, Copy)]
struct Span {
    end: f64,
    length: f64,
}

/// Asks for every panel over the last `back`, and draws them all.
///
/// # Errors
/// Prometheus refuses a query.
pub async fn draw(watch: &Watch, back: Duration) -> Result<String> {
    let span = Span { end: now_s()?, length: back.as_secs_f64().max(1.0) };
    let parts = layout();
    let lines = parts.iter().map(|(_, place)| place.y + place.height).max().unwrap_or(0);
    let (width, height) = (24.0 * COLUMN, lines as f64 * LINE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#111217\"/>\n"
    );
    for (part, place) in &parts {
        match part {
            Part::Title(title) => text(&mut svg, (8.0, place.y as f64 * LINE + 20.0), 14, "#ccccdc", title),
            Part::Panel(panel) => {
                let mut series = Vec::new();
                for (query, legend) in panel.queries {
                    let answers = watch.range(&filled(query, RATE), span.end - span.length, span.end).await?;
                    series.extend(answers.into_iter().map(|answer| (named(legend, &answer), answer)));
                }
                frame(&mut svg, panel, place, &series, span);
            }
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A legend with its labels filled in.
fn named(legend: &str, series: &Series) -> String {
    let filled = series.labels.iter().fold(legend.to_owned(), |text, (label, value)| {
        // Ports differ from run to run.
        let value = if label == "instance" { value.split(':').next().unwrap_or_default() } else { value };
        text.replace(&format!("{{{{{label}}}}}"), value)
    });
    filled.trim().to_owned()
}

fn text(svg: &mut String, (x, y): (f64, f64), size: u32, colour: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a String can't fail.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\">{words}</text>"
    );
}

fn frame(svg: &mut String, panel: &Panel, place: &Place, series: &[(String, Series)], span: Span) {
    let (x, y) = (place.x as f64 * COLUMN + GAP / 2.0, place.y as f64 * LINE + GAP / 2.0);
    let (width, height) = (place.width as f64 * COLUMN - GAP, place.height as f64 * LINE - GAP);
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"3\" fill=\"#181b1f\" stroke=\"#2c2f36\"/>"
    );
    text(svg, (x + 10.0, y + 20.0), 13, "#ccccdc", panel.title);
    if matches!(panel.look, Look::Number(_) | Look::Flag) {
        number(svg, panel, (x + 10.0, y + 78.0), series);
    } else {
        lines(svg, panel, (x, y, width, height), series, span);
    }
}

fn number(svg: &mut String, panel: &Panel, at: (f64, f64), series: &[(String, Series)]) {
    let last = series.iter().find_map(|(_, series)| series.points.last()).map(|(_, value)| *value);
    let Some(value) = last.filter(|value| value.is_finite()) else {
        text(svg, at, 30, "#9fa7b3", "–");
        return;
    };
    let bad = match panel.look {
        Look::Number(Some(limit)) => value * 1_000.0 >= f64::from(limit),
        Look::Flag => value < 1.0,
        Look::Number(None) | Look::Lines | Look::Stack => false,
    };
    let words = if panel.look == Look::Flag {
        if bad { "no" } else { "yes" }.to_owned()
    } else {
        said(value, panel.unit)
    };
    text(svg, at, 36, if bad { "#f2495c" } else { "#73bf69" }, &words);
}

fn lines(
    svg: &mut String,
    panel: &Panel,
    (x, y, width, height): (f64, f64, f64, f64),
    series: &[(String, Series)],
    span: Span,
) {
    let (left, right, top, bottom) = (x + 52.0, x + width - 10.0, y + 34.0, y + height - 40.0);
    let stacked = panel.look == Look::Stack;
    let most = highest(series, stacked);
    let most = if most > 0.0 { most * 1.1 } else { 1.0 };
    for part in 0..=2 {
        let share = f64::from(part) / 2.0;
        let line = bottom - (bottom - top) * share;
        let _ = writeln!(
            svg,
            "<path d=\"M{left:.1} {line:.1}H{right:.1}\" stroke=\"#2c2f36\" stroke-width=\"1\"/>"
        );
        text(svg, (x + 8.0, line + 4.0), 10, "#9fa7b3", &said(most * share, panel.unit));
    }
    let place = |at: f64, value: f64| {
        let across = 1.0 - (span.end - at) / span.length;
        (left + (right - left) * across, bottom - (bottom - top) * (value / most).clamp(0.0, 1.0))
    };
    let mut below: BTreeMap<i64, f64> = BTreeMap::new();
    let mut paths = Vec::new();
    for (_, series) in series {
        let (mut path, mut last) = (String::new(), None);
        for (at, value) in series.points.iter().filter(|(_, value)| value.is_finite()) {
            let base = below.entry(at.round() as i64).or_default();
            let value = if stacked { *base + value } else { *value };
            if stacked {
                *base = value;
            }
            let (px, py) = place(*at, value);
            // A gap in the answers is a gap in the line.
            let step = if last.is_some_and(|last| at - last < 2.5) { 'L' } else { 'M' };
            let _ = write!(path, "{step}{px:.1} {py:.1}");
            last = Some(*at);
        }
        paths.push(path);
    }
    // The first on top: what lies on it in a stack adds nothing there.
    let coloured: Vec<_> = paths.iter().zip(COLOURS.iter().cycle()).collect();
    for (path, colour) in coloured.into_iter().rev() {
        let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
    }
    legend(svg, (x + 10.0, y + height - 22.0, right), series);
}

/// The highest point, of one line or of all on top of each other.
fn highest(series: &[(String, Series)], stacked: bool) -> f64 {
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    for (at, value) in
        series.iter().flat_map(|(_, series)| &series.points).filter(|(_, value)| value.is_finite())
    {
        let sum = sums.entry(at.round() as i64).or_default();
        *sum = if stacked { *sum + value } else { sum.max(*value) };
    }
    sums.values().copied().fold(0.0, f64::max)
}

/// The names of the lines, as many as there is room for in two rows.
fn legend(svg: &mut String, (x, mut y, right): (f64, f64, f64), series: &[(String, Series)]) {
    let mut at = x;
    let mut rows = 1;
    for ((name, _), colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let length = 24.0 + name.chars().count() as f64 * 5.6;
        if at + length > right {
            rows += 1;
            (at, y) = (x, y + 13.0);
        }
        if rows > 2 {
            return;
        }
        let _ = writeln!(
            svg,
            "<rect x=\"{at:.1}\" y=\"{:.1}\" width=\"10\" height=\"3\" fill=\"{colour}\"/>",
            y - 5.0
        );
        text(svg, (at + 14.0, y), 10, "#ccccdc", name);
        at += length;
    }
}

/// A value with its unit, short.
fn said(value: f64, unit: &str) -> String {
    let plain = |value: f64| {
        if value >= 100.0 || (value - value.round()).abs() < 1e-9 {
            format!("{value:.0}")
        } else if value >= 1.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.2}")
        }
    };
    match unit {
        "s" if value > 0.0 && value < 1.0 => format!("{} ms", plain(value * 1_000.0)),
        "s" if value >= 120.0 => format!("{} min", plain(value / 60.0)),
        "s" => format!("{} s", plain(value)),
        "bytes" => format!("{} MiB", plain(value / 1_048_576.0)),
        "percentunit" => format!("{} %", plain(value * 100.0)),
        "ops" | "reqps" => format!("{}/s", plain(value)),
        _ => plain(value),
    }
}
