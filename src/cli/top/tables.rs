//! The two tables of the picture: groups, and the newest calls. Owns their columns, and which of them give
//! way on a narrow screen.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table, TableState};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::super::columns::{Column, GAP, fit};
use super::super::visible::{shortened, visible, width};
use super::draw::{BOLD, DIM, Scene};
use super::figures::{Call, Group, per_hour};
use super::state::State;
use crate::figures::{cents, exact, share, short};
use crate::units::Usd;

/// What stands for what nobody knows.
const UNKNOWN: &str = "-";

/// Columns of a terminal for a bar of all that was spent.
const BAR: usize = 10;

/// Parts of one of them that can be told apart.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A cell: its text, and how it stands out.
type Shown = (String, Style);

/// A column: its title, whether it holds names, and its place among those that give way.
type Title<'a> = (&'a str, bool, Option<usize>);

pub(super) fn groups(frame: &mut Frame<'_>, area: Rect, state: &State, scene: &Scene) {
    let groups = state.groups();
    let whole = state.seen().map_or(Usd::ZERO, |seen| seen.totals.cost);
    let key = visible(&state.by);
    let titles: [Title<'_>; 9] = [
        (&key, true, None),
        ("calls", false, None),
        ("errors", false, Some(4)),
        ("input", false, Some(3)),
        ("output", false, Some(2)),
        ("cost", false, None),
        ("cost/h", false, Some(5)),
        ("share", false, Some(1)),
        ("p50 ms", false, Some(0)),
    ];
    let rows: Vec<_> = groups.iter().map(|group| cells(group, whole, state, scene)).collect();
    let more = state.seen().is_some_and(|seen| seen.has_more);
    let mut at = TableState::new();
    if !groups.is_empty() {
        at.select(Some(state.selected()));
    }
    let table = table(area, &titles, &rows).row_highlight_style(Modifier::REVERSED);
    frame.render_stateful_widget(table, area, &mut at);
    if state.seen().is_some() && groups.is_empty() && area.height > 1 {
        let text = if state.search.is_empty() { "no calls" } else { "no name has this text" };
        let below = Rect { y: area.y + 1, height: 1, ..area };
        frame.render_widget(Line::styled(text, DIM), below);
    }
    if more && state.is_reversed && area.height > 2 {
        let below = Rect { y: area.bottom() - 1, height: 1, ..area };
        frame.render_widget(Line::styled("of more groups than are asked for", DIM), below);
    }
}

fn cells(group: &Group, whole: Usd, state: &State, scene: &Scene) -> Vec<Shown> {
    let figures = &group.figures;
    let plain = Style::new();
    let key = match &group.key {
        Some(key) => (key.clone(), plain),
        None => (UNKNOWN.to_owned(), DIM),
    };
    let errors = if figures.errors > 0 { scene.tint(Color::Red) } else { DIM };
    let is_unsure = figures.unpriced > 0 || figures.estimated > 0;
    let cost = if is_unsure { scene.tint(Color::Yellow) } else { plain };
    let about = if figures.estimated > 0 { "~" } else { "" };
    vec![
        key,
        (exact(figures.calls), plain),
        (exact(figures.errors), errors),
        (short(figures.input), plain),
        (short(figures.output), plain),
        (format!("{about}{}", cents(figures.cost)), cost),
        (cents(per_hour(figures.cost, state.window_ms())), plain),
        (bar(figures.cost, whole), scene.tint(Color::Cyan)),
        (figures.p50_ms.map_or_else(|| UNKNOWN.to_owned(), exact), plain),
    ]
}

/// As long as its part of the whole, and as wide as the whole always.
fn bar(part: Usd, whole: Usd) -> String {
    let eighths = share(part.decimal(), whole.decimal()) * Decimal::from(BAR * 8);
    let eighths = eighths.round().to_usize().unwrap_or_default().min(BAR * 8);
    let drawn = format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8]);
    let blanks = BAR - width(&drawn);
    drawn + &" ".repeat(blanks)
}

pub(super) fn calls(frame: &mut Frame<'_>, area: Rect, state: &State, scene: &Scene) {
    let titles: [Title<'_>; 9] = [
        ("newest calls", false, None),
        ("user", true, None),
        ("operation", true, Some(1)),
        ("model", true, None),
        ("input", false, Some(2)),
        ("output", false, Some(3)),
        ("cost", false, None),
        ("status", false, Some(4)),
        ("ms", false, Some(0)),
    ];
    let room = usize::from(area.height.saturating_sub(1));
    let rows: Vec<_> =
        state.calls().iter().take(room).map(|call| call_cells(call, scene)).collect();
    frame.render_widget(table(area, &titles, &rows), area);
}

fn call_cells(call: &Call, scene: &Scene) -> Vec<Shown> {
    let time = call.at.calendar().to_zoned(scene.zone.clone()).strftime("%H:%M:%S").to_string();
    let tint = match call {
        Call { is_failed: true, .. } => scene.tint(Color::Red),
        Call { is_estimated: true, .. } => scene.tint(Color::Yellow),
        _ => Style::new(),
    };
    let name = |name: &Option<String>| match name {
        Some(name) => (name.clone(), Style::new()),
        None => (UNKNOWN.to_owned(), DIM),
    };
    let about = if call.is_estimated { "~" } else { "" };
    let figure = |figure: Option<String>| match figure {
        Some(figure) => (figure, tint),
        None => (UNKNOWN.to_owned(), DIM),
    };
    // The end that a call came to, where its status does not tell.
    let status = match (call.status, call.outcome.as_str()) {
        (_, "client_closed") => "left".to_owned(),
        (_, "interrupted") => "cut off".to_owned(),
        (_, "refused") => "refused".to_owned(),
        (None | Some(..400), "upstream_failed") => "failed".to_owned(),
        (status, _) => status.map_or_else(|| UNKNOWN.to_owned(), |status| status.to_string()),
    };
    vec![
        (time, DIM),
        name(&call.user),
        name(&call.operation),
        name(&call.model),
        figure(call.input.map(exact)),
        figure(call.output.map(exact)),
        figure(call.cost.map(|cost| format!("{about}{}", cents(cost)))),
        (status, tint),
        figure(call.duration_ms.map(exact)),
    ]
}

/// Figures to the right, names shortened, and only the columns there is room for.
fn table(area: Rect, titles: &[Title<'_>], rows: &[Vec<Shown>]) -> Table<'static> {
    let measure = |(at, (title, is_name, leaves)): (usize, &Title<'_>)| {
        let cells = rows.iter().map(|row| width(&visible(&row[at].0)));
        let natural = cells.max().unwrap_or_default().max(width(title));
        Column { natural, is_name: *is_name, leaves: *leaves }
    };
    let columns: Vec<Column> = titles.iter().enumerate().map(measure).collect();
    let widths = fit(&columns, Some(usize::from(area.width)));
    let kept: Vec<(usize, usize)> =
        widths.iter().enumerate().filter_map(|(at, width)| Some((at, (*width)?))).collect();
    let cell = |at: usize, room: usize, text: &str, style: Style| {
        let text = shortened(text, room).into_owned();
        let is_left = at == 0 || columns[at].is_name;
        let side = if is_left { Alignment::Left } else { Alignment::Right };
        Cell::new(Text::styled(text, style).alignment(side))
    };
    let head = kept.iter().map(|(at, room)| cell(*at, *room, titles[*at].0, BOLD));
    let head = Row::new(head.collect::<Vec<_>>());
    let rows = rows.iter().map(|row| {
        let cells = kept.iter().map(|(at, room)| cell(*at, *room, &row[*at].0, row[*at].1));
        Row::new(cells.collect::<Vec<_>>())
    });
    let rows: Vec<Row<'static>> = rows.collect();
    let widths =
        kept.iter().map(|(_, room)| Constraint::Length(u16::try_from(*room).unwrap_or(u16::MAX)));
    Table::new(rows, widths).header(head).column_spacing(GAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        let usd = |text: &str| text.parse::<Usd>().unwrap();
        assert_eq!(bar(usd("1"), usd("1")), "██████████");
        assert_eq!(bar(usd("1"), usd("4")), "██▌       ");
        assert_eq!(bar(usd("0"), usd("0")), "          ");
        for part in 0..=40 {
            assert_eq!(width(&bar(Usd::from_nanos(part), Usd::from_nanos(40))), BAR);
        }
    }
}
