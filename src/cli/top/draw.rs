//! The picture of a state. Owns what stands where, and what gives way on a small screen; every text of a
//! client's is made visible here.

use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Margin, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, RenderDirection, Sparkline};
use rust_decimal::Decimal;

use super::super::visible::{shortened, visible, width};
use super::curve::STEP_MS;
use super::figures::{Figures, per_minute};
use super::keys::HELP;
use super::state::State;
use super::tables;
use crate::figures::{cents, percent, share, short, span};

/// What a picture has besides its state.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// The database, or the address of the tokenmeter that is asked.
    pub(super) instance: String,
    pub(super) zone: TimeZone,
    pub(super) is_coloured: bool,
}

impl Scene {
    /// A colour, or what stands for it where there is none.
    pub(super) fn tint(&self, color: Color) -> Style {
        match (self.is_coloured, color) {
            (true, color) => Style::new().fg(color),
            (false, Color::Red) => Style::new().add_modifier(Modifier::BOLD),
            (false, _) => Style::new(),
        }
    }
}

pub(super) const DIM: Style = Style::new().add_modifier(Modifier::DIM);
pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Screens of fewer lines have neither curve nor calls.
const FEW_LINES: u16 = 16;

/// And of fewer than this, no curve.
const SOME_LINES: u16 = 22;

/// Lines shorter than this do without small words.
const LITTLE: usize = 60;

/// Lines of the curve, its title included.
const CURVE_LINES: u16 = 3;

pub(super) fn draw(frame: &mut Frame<'_>, state: &State, scene: &Scene) {
    let area = frame.area();
    let head = head(state, scene, usize::from(area.width), area.height >= FEW_LINES);
    let calls = if area.height < FEW_LINES { 0 } else { (area.height / 3).clamp(5, 18) };
    let curve = if area.height < SOME_LINES { 0 } else { CURVE_LINES };
    let gap = u16::from(calls > 0 && curve > 0);
    let [top, line, table, _, newest, foot] = Layout::vertical([
        Constraint::Length(u16::try_from(head.len()).unwrap_or(u16::MAX)),
        Constraint::Length(curve),
        Constraint::Min(2),
        Constraint::Length(gap),
        Constraint::Length(calls),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(head), top);
    if curve > 0 {
        draw_curve(frame, line, state, scene);
    }
    tables::groups(frame, table, state, scene);
    if calls > 0 {
        tables::calls(frame, newest, state, scene);
    }
    frame.render_widget(foot_line(state, scene, usize::from(area.width)), foot);
    if state.is_help {
        draw_help(frame, area);
    }
}

/// Who is asked for what, the figures of the whole, and how it goes.
fn head(state: &State, scene: &Scene, room: usize, is_tall: bool) -> Vec<Line<'static>> {
    let mut lines = vec![title(state, scene, room), place(state, room)];
    let Some(seen) = state.seen() else {
        lines.push(Line::styled("asking…", DIM));
        if is_tall {
            lines.push(Line::default());
        }
        lines.push(connection(state, scene, room));
        return lines;
    };
    let (all, minute) = (&seen.totals, &seen.minute);
    let window = span_of(state.window_ms());
    let mut facts = vec![
        fact(&cents(all.cost), &format!("in {window}")),
        fact(&cents(super::figures::per_hour(minute.cost, 60_000)), "an hour now"),
        fact(&short(minute.calls), "calls/min"),
        fact(&short(minute.tokens), "tokens/min"),
    ];
    if let Some(open) = seen.open {
        facts.insert(2, fact(&short(open), "open"));
    }
    lines.push(joined(facts, room));
    if is_tall {
        lines.push(joined(quality(all, state, scene), room));
    }
    lines.push(connection(state, scene, room));
    lines
}

fn title(state: &State, scene: &Scene, room: usize) -> Line<'static> {
    let clock = state.now.calendar().to_zoned(scene.zone.clone());
    let zone = scene.zone.iana_name().unwrap_or("UTC");
    let clock = format!("{} {zone}", clock.strftime("%H:%M:%S"));
    let name = "tokenmeter top";
    let left = room.saturating_sub(name.len() + clock.len() + 4);
    let instance =
        if left < 8 { String::new() } else { shortened(&scene.instance, left).into_owned() };
    let blanks = room.saturating_sub(name.len() + 2 + width(&instance) + clock.len());
    Line::from(vec![
        Span::styled(name, BOLD),
        Span::raw("  "),
        Span::raw(instance),
        Span::raw(" ".repeat(blanks)),
        Span::styled(clock, DIM),
    ])
}

/// Filters, path and key: `user ann › by model`.
fn place(state: &State, room: usize) -> Line<'static> {
    let order = if state.is_reversed { '↑' } else { '↓' };
    let (window, sort) = (span_of(state.window_ms()), state.sort.name());
    let tail = match room {
        ..LITTLE => format!("  {window}, {sort} {order}"),
        _ => format!("  last {window}, by {sort} {order}"),
    };
    let typed = state.filters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let gone = state.path.iter().map(|step| (step.by.as_str(), step.value.as_str()));
    let steps: Vec<_> = typed.chain(gone).collect();
    let key = visible(&state.by).into_owned();
    let by = if steps.is_empty() { format!("all calls by {key}") } else { format!("by {key}") };
    let fixed: usize = steps.iter().map(|(name, _)| width(&visible(name)) + 4).sum();
    let left = room.saturating_sub(width(&by) + width(&tail) + fixed);
    let each = (left / steps.len().max(1)).max(4);
    let mut spans = Vec::new();
    for (name, value) in steps {
        spans.push(Span::styled(format!("{} ", visible(name)), DIM));
        spans.push(Span::raw(shortened(value, each).into_owned()));
        spans.push(Span::styled(" › ", DIM));
    }
    spans.push(Span::styled(by, BOLD));
    spans.push(Span::styled(tail, DIM));
    Line::from(spans)
}

/// How far the figures can be trusted.
fn quality(all: &Figures, state: &State, scene: &Scene) -> Vec<Vec<Span<'static>>> {
    let part = |count: u64| percent(share(Decimal::from(count), Decimal::from(all.calls)));
    let told = |count: u64, what: &str, color: Color| {
        let style = if count > 0 { scene.tint(color) } else { Style::new() };
        let text = format!("{} ({})", short(count), part(count));
        vec![Span::styled(text, style), Span::styled(format!(" {what}"), DIM)]
    };
    vec![
        told(all.errors, "errors", Color::Red),
        told(all.estimated, "estimated", Color::Yellow),
        told(all.unpriced, "unpriced", Color::Yellow),
        fact(&mean_of(per_minute(all.calls, state.window_ms())), "calls/min on average"),
    ]
}

fn mean_of(value: Decimal) -> String {
    crate::figures::mean(value)
}

/// Whether answers come, and if not, since when and why.
fn connection(state: &State, scene: &Scene, room: usize) -> Line<'static> {
    let every = span_of(state.interval_ms);
    match state.silence() {
        _ if state.is_paused => Line::styled("paused; space goes on", scene.tint(Color::Yellow)),
        Some((millis, why)) => {
            let since = format!("no answer for {} s", millis / 1000);
            let text = why.map_or(since.clone(), |why| format!("{since}: {why}"));
            Line::styled(shortened(&text, room).into_owned(), scene.tint(Color::Red))
        }
        None => {
            let light = Span::styled("●", scene.tint(Color::Green));
            Line::from(vec![light, Span::styled(format!(" asked every {every}"), DIM)])
        }
    }
}

fn draw_curve(frame: &mut Frame<'_>, area: Rect, state: &State, scene: &Scene) {
    let [title, curve] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    // A figure takes a column; the newest stands to the right.
    let newest: Vec<u64> = state.curve().rev().take(usize::from(area.width)).map(nanos).collect();
    let most = newest.iter().max().copied().unwrap_or_default();
    let millis = i64::try_from(newest.len()).unwrap_or(0) * STEP_MS;
    let most = cents(crate::units::Usd::from_nanos(i64::try_from(most).unwrap_or(i64::MAX)));
    let text = match newest.len() {
        0 => "cost an hour".to_owned(),
        _ => format!("cost an hour, last {}, at most {most}", span_of(millis)),
    };
    frame.render_widget(
        Line::styled(shortened(&text, usize::from(area.width)).into_owned(), DIM),
        title,
    );
    let line = Sparkline::default()
        .data(&newest)
        .direction(RenderDirection::RightToLeft)
        .style(scene.tint(Color::Cyan));
    frame.render_widget(line, curve);
}

fn nanos(amount: crate::units::Usd) -> u64 {
    u64::try_from(amount.nanos()).unwrap_or_default()
}

fn foot_line(state: &State, scene: &Scene, room: usize) -> Line<'static> {
    if state.is_typing {
        let text = format!("/{}", state.search);
        return Line::from(vec![
            Span::raw(shortened(&text, room.saturating_sub(1)).into_owned()),
            Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
        ]);
    }
    if let Some(notice) = &state.notice {
        return Line::styled(shortened(notice, room).into_owned(), scene.tint(Color::Yellow));
    }
    if !state.search.is_empty() {
        let text = format!("names with \"{}\"; Esc shows all", state.search);
        return Line::styled(shortened(&text, room).into_owned(), scene.tint(Color::Yellow));
    }
    let keys = [
        ("q", "quit"),
        ("?", "help"),
        ("Enter", "into"),
        ("⌫", "back"),
        ("u m o s p", "by"),
        ("w", "window"),
        ("c t r e", "sort"),
        ("/", "search"),
        ("space", "pause"),
    ];
    joined(keys.map(|(key, what)| fact(key, what)).to_vec(), room)
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let keys = HELP.iter().map(|(keys, _)| width(keys)).max().unwrap_or_default();
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(key, what)| {
            let blanks = " ".repeat(keys - width(key) + 2);
            Line::from(vec![Span::styled(*key, BOLD), Span::raw(blanks), Span::raw(*what)])
        })
        .collect();
    let wide = lines.iter().map(Line::width).max().unwrap_or_default() + 4;
    let tall = lines.len() + 2;
    let [wide, tall] = [wide, tall].map(|size| u16::try_from(size).unwrap_or(u16::MAX));
    let over = area.centered(Constraint::Length(wide), Constraint::Length(tall));
    frame.render_widget(Clear, over);
    frame.render_widget(Block::bordered().title(" keys ").border_style(DIM), over);
    frame.render_widget(Paragraph::new(lines), over.inner(Margin::new(2, 1)));
}

/// A figure and what it is.
fn fact(figure: &str, what: &str) -> Vec<Span<'static>> {
    vec![Span::raw(figure.to_owned()), Span::styled(format!(" {what}"), DIM)]
}

/// As many as there is room for, the first ones first.
fn joined(facts: Vec<Vec<Span<'static>>>, room: usize) -> Line<'static> {
    const BETWEEN: &str = "   ";
    let mut line = Line::default();
    for fact in facts {
        let wide: usize = fact.iter().map(Span::width).sum();
        let between = if line.spans.is_empty() { 0 } else { BETWEEN.len() };
        if line.width() + between + wide > room && between > 0 {
            break;
        }
        if between > 0 {
            line.push_span(BETWEEN);
        }
        line.spans.extend(fact);
    }
    line
}

/// `15 min`, `24 h`, `7 d`.
fn span_of(millis: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    match millis {
        days if days > DAY_MS && days % DAY_MS == 0 => format!("{} d", days / DAY_MS),
        millis => span(u64::try_from(millis).unwrap_or_default()),
    }
}
