//! Trends as drawings. Owns what is drawn, its axes and its colours; knows nothing of pages.
//!
//! A drawing is SVG without a background, whose colours are classes of meaning that a page may replace by
//! others of its own (see `style.css`). Only here do figures become floats, and only to be drawn.

use charts_rs::{BarChart, Color, LegendCategory, Series};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::sums::Sums;
use super::window::Bucket;
use super::{Chart, Figure, table};
use crate::units::Usd;

/// In CSS pixels, for a page of 720: texts are as large as they say.
const WIDTH: f32 = 720.0;
const HEIGHT: f32 = 210.0;

/// Of the SVG's texts: what a viewer has, or the PDF's own.
const FONT: &str = "Roboto, Segoe UI, Helvetica, Arial, sans-serif";
const FONT_SIZE: f32 = 10.5;

/// Texts, lines, and one colour for each thing that is drawn. `style.css` names them again.
const TEXT: &str = "#5b6472";
const LINE: &str = "#dde2ea";
const COST: &str = "#3b6fd4";
const INPUT: &str = "#3b6fd4";
const CACHED: &str = "#9dbcf2";
const OUTPUT: &str = "#d97a2b";
const REASONING: &str = "#f0c08f";

/// Intervals of a y axis, at most.
const INTERVALS: u32 = 5;

/// Units of large and small sums: how many, and the label before and after the number.
const MONEY: [(Decimal, &str, &str); 6] = [
    (Decimal::from_parts(1_000_000_000, 0, 0, false, 0), "$", "B"),
    (Decimal::from_parts(1_000_000, 0, 0, false, 0), "$", "M"),
    (Decimal::ONE_THOUSAND, "$", "k"),
    (Decimal::ONE, "$", ""),
    (Decimal::from_parts(1, 0, 0, false, 2), "", " ¢"),
    (Decimal::from_parts(1, 0, 0, false, 6), "", " µ$"),
];
const COUNTS: [(Decimal, &str, &str); 5] = [
    (Decimal::from_parts(0xd4a5_1000, 0xe8, 0, false, 0), "", "T"),
    (Decimal::from_parts(1_000_000_000, 0, 0, false, 0), "", "B"),
    (Decimal::from_parts(1_000_000, 0, 0, false, 0), "", "M"),
    (Decimal::ONE_THOUSAND, "", "k"),
    (Decimal::ONE, "", ""),
];

/// One series of bars.
struct Bars {
    name: &'static str,
    colour: &'static str,
    values: Vec<Decimal>,
}

/// The trends of cost and tokens.
pub(super) fn charts(trend: &[(Bucket, Sums)], step: &str) -> Vec<Chart> {
    let cost = Bars {
        name: "Cost",
        colour: COST,
        values: trend.iter().map(|(_, sums)| sums.cost_usd.decimal()).collect(),
    };
    let class = |name, colour, of: fn(&Sums) -> u64| Bars {
        name,
        colour,
        values: trend.iter().map(|(_, sums)| of(sums).into()).collect(),
    };
    let tokens = [
        class("Input", INPUT, |sums| sums.input_tokens.saturating_sub(sums.cache_read_tokens)),
        class("Input read from caches", CACHED, |sums| sums.cache_read_tokens),
        class("Output", OUTPUT, Sums::plain_output_tokens),
        class("Reasoning", REASONING, |sums| sums.reasoning_tokens.min(sums.output_tokens)),
    ];
    // The first of equals.
    let dearest = trend.iter().rev().max_by_key(|(_, sums)| sums.cost_usd);
    let largest = trend.iter().rev().max_by_key(|(_, sums)| sums.total_tokens);
    let highest = |figure: &Figure, bucket: &Bucket| {
        format!("The highest is {}, {}.", figure.shown, bucket.name)
    };
    let mut charts = Vec::new();
    if let Some((bucket, sums)) = dearest.filter(|(_, sums)| sums.cost_usd > Usd::ZERO) {
        charts.push(Chart {
            title: format!("Cost by {step}"),
            about: highest(&table::cost(sums), bucket),
            svg: draw(trend, &[cost], &MONEY),
        });
    }
    if let Some((bucket, sums)) = largest.filter(|(_, sums)| sums.total_tokens > 0) {
        charts.push(Chart {
            title: format!("Tokens by {step}"),
            about: highest(&table::tokens(sums.total_tokens, sums), bucket),
            svg: draw(trend, &tokens, &COUNTS),
        });
    }
    charts
}

/// Bars, those of one step upon each other.
fn draw(trend: &[(Bucket, Sums)], bars: &[Bars], units: &[(Decimal, &str, &str)]) -> String {
    let sums = (0..trend.len()).map(|at| bars.iter().map(|bars| bars.values[at]).sum::<Decimal>());
    let highest = sums.max().unwrap_or_default();
    let (unit, before, after) = unit(highest, units);
    let (top, intervals) = axis(highest / unit);
    let series: Vec<Series> = bars.iter().map(|bars| bars.series(unit)).collect();
    let labels = trend.iter().map(|(bucket, _)| bucket.label.clone()).collect();
    let mut chart = BarChart::new(series, labels);
    (chart.width, chart.height, chart.compact) = (WIDTH, HEIGHT, true);
    FONT.clone_into(&mut chart.font_family);
    chart.background_color = Color::transparent();
    chart.series.colors = bars.iter().map(|bars| bars.colour.into()).collect();
    chart.radius = Some(1.0);
    chart.grid.stroke_color = LINE.into();
    chart.legend.show = Some(bars.len() > 1);
    chart.legend.category = LegendCategory::RoundRect;
    chart.legend.font.size = FONT_SIZE;
    chart.legend.font.color = TEXT.into();
    chart.x_axis.font.size = FONT_SIZE;
    chart.x_axis.font.color = TEXT.into();
    chart.x_axis.stroke_color = LINE.into();
    if let Some(axis) = chart.y_axis_configs.first_mut() {
        axis.font.size = FONT_SIZE;
        axis.font.color = TEXT.into();
        axis.min = Some(0.0);
        axis.max = top.to_f32();
        axis.split_number = intervals;
        axis.formatter = Some(format!("{before}{{c}}{after}"));
    }
    // It fails for images and fonts only, of which there are none.
    without_data(&chart.svg().unwrap_or_default())
}

/// What the library writes for scripts to read, which a report has none of.
fn without_data(svg: &str) -> String {
    let mut out = String::with_capacity(svg.len());
    let mut left = svg;
    while let Some((before, after)) = left.split_once(" data-") {
        out.push_str(before);
        // Quotes within values are escaped.
        left = after.splitn(3, '"').nth(2).unwrap_or_default();
    }
    out + left
}

impl Bars {
    fn series(&self, unit: Decimal) -> Series {
        let values = self.values.iter().map(|value| (value / unit).to_f32().unwrap_or_default());
        let mut series = Series::new(self.name.to_owned(), values.collect());
        series.stack = Some("all".to_owned());
        series
    }
}

/// The largest unit of which there is at least one.
fn unit<'u>(
    highest: Decimal,
    units: &[(Decimal, &'u str, &'u str)],
) -> (Decimal, &'u str, &'u str) {
    let found = units.iter().find(|(unit, ..)| highest >= *unit).or(units.last());
    found.copied().unwrap_or((Decimal::ONE, "", ""))
}

/// The top of a y axis, and how many intervals it has: those are 1, 2 or 5 of a power of ten.
fn axis(highest: Decimal) -> (Decimal, usize) {
    let mut tens = Decimal::new(1, 3);
    while tens * Decimal::TEN * Decimal::from(INTERVALS) < highest {
        tens *= Decimal::TEN;
    }
    let steps = [1, 2, 5, 10].map(|step| tens * Decimal::from(step));
    let fits = |step: &Decimal| *step * Decimal::from(INTERVALS) >= highest;
    let step = steps.into_iter().find(fits).unwrap_or(tens * Decimal::TEN);
    let intervals = (highest / step).ceil().max(Decimal::ONE);
    (step * intervals, intervals.to_usize().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let ends = |text: &str| {
            let (top, intervals) = axis(text.parse().unwrap());
            (top.normalize().to_string(), intervals)
        };
        assert_eq!(ends("1"), ("1".to_owned(), 5));
        assert_eq!(ends("4.1"), ("5".to_owned(), 5));
        assert_eq!(ends("123"), ("150".to_owned(), 3));
        assert_eq!(ends("999"), ("1000".to_owned(), 5));
        assert_eq!(ends("0"), ("0.001".to_owned(), 1));
    }

    #[test]
    fn units_fit_the_highest() {
        assert_eq!(unit("0.02".parse().unwrap(), &MONEY).2, " ¢");
        assert_eq!(unit("1234".parse().unwrap(), &MONEY).2, "k");
        assert_eq!(unit("0.000000001".parse().unwrap(), &MONEY).2, " µ$");
        assert_eq!(unit("1000000000000".parse().unwrap(), &COUNTS).2, "T");
        assert_eq!(unit("0".parse().unwrap(), &COUNTS).2, "");
    }

    #[test]
    fn drawings_are_only_drawings() {
        assert_eq!(
            without_data(r#"<a b="1" data-x="2 &quot; data-" data-y="3"/><c/>"#),
            r#"<a b="1"/><c/>"#
        );
        let bucket = |label: &str| Bucket {
            key: label.to_owned(),
            label: label.to_owned(),
            name: label.to_owned(),
            since: crate::units::Timestamp::from_millis(0),
        };
        let sums = Sums {
            total_tokens: 7,
            input_tokens: 7,
            cost_usd: "0.5".parse().unwrap(),
            ..Sums::default()
        };
        let drawn = charts(&[(bucket("1 Oct"), sums), (bucket("2 Oct"), Sums::default())], "day");
        assert_eq!(drawn.len(), 2);
        for Chart { svg, about, .. } in drawn {
            assert!(svg.starts_with("<svg ") && svg.contains("1 Oct"), "{svg}");
            assert!(
                !svg.contains("data-") && !svg.contains("NaN") && !svg.contains("<image"),
                "{svg}"
            );
            assert!(about.contains("1 Oct"), "{about}");
        }
        assert!(charts(&[(bucket("1 Oct"), Sums::default())], "day").is_empty());
    }
}
