//! The terminal's view: hooks with their programs, and maps.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use duckbpf_control::{Hello, Map, Point, Stats};
use ratatui::{
    Frame,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers},
    layout::{Alignment, Constraint, Layout},
    style::{Modifier, Style},
    text::Text,
    widgets::{Block, Cell, Paragraph, Row, Table},
};

use super::{
    Watch,
    rates::{Rate, Rates},
};
use crate::output::{bytes, count};

/// Draws until somebody presses q.
pub fn show(watch: &mut Watch, interval: Duration, looks: Option<u64>) -> Result<()> {
    let mut terminal = ratatui::try_init().context("no terminal; --json prints lines, --listen serves metrics")?;
    let done = draw_on(&mut terminal, watch, interval, looks);
    ratatui::restore();
    done
}

fn draw_on(
    terminal: &mut ratatui::DefaultTerminal,
    watch: &mut Watch,
    interval: Duration,
    looks: Option<u64>,
) -> Result<()> {
    let mut before = watch.look()?;
    let mut now = before.clone();
    let mut left = looks.unwrap_or(u64::MAX);
    loop {
        let rates = Rates::between(&before, &now);
        terminal.draw(|frame| draw(frame, &watch.hello, &now, &rates)).context("the terminal")?;
        if left == 0 || ask_to_end(interval)? {
            return Ok(());
        }
        before = std::mem::replace(&mut now, watch.look()?);
        left -= 1;
    }
}

/// Waits so long, or until a key asks to end.
fn ask_to_end(wait: Duration) -> Result<bool> {
    let until = Instant::now() + wait;
    while event::poll(until.saturating_duration_since(Instant::now())).context("the terminal")? {
        if let Event::Key(KeyEvent { code, modifiers, .. }) = event::read().context("the terminal")? {
            let is_interrupt = code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL);
            if matches!(code, KeyCode::Char('q') | KeyCode::Esc) || is_interrupt {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn draw(frame: &mut Frame, hello: &Hello, stats: &Stats, rates: &Rates) {
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(stats.points.len() as u16 + 3),
        Constraint::Min(3),
        Constraint::Length(1),
    ]);
    let [head, hooks, maps, foot] = areas.areas(frame.area());
    let Hello { pid, duckdb, carrier, version, .. } = hello;
    let memory = format!("{} of {}", bytes(stats.map_memory), bytes(stats.map_memory_limit));
    let line = format!("duckbpf {version}   process {pid}, DuckDB {duckdb} ({carrier})   memory of maps {memory}");
    frame.render_widget(Paragraph::new(line).style(Style::new().add_modifier(Modifier::BOLD)), head);
    frame.render_widget(hook_table(stats, rates), hooks);
    frame.render_widget(map_table(&stats.maps), maps);
    frame.render_widget(Paragraph::new("q ends"), foot);
}

fn right(text: String) -> Cell<'static> {
    Cell::new(Text::from(text).alignment(Alignment::Right))
}

/// A head whose columns with `>` before their names are numbers.
fn head(columns: &[&'static str]) -> Row<'static> {
    let cell = |name: &&'static str| match name.strip_prefix('>') {
        Some(name) => right(name.to_owned()),
        None => Cell::new(*name),
    };
    Row::new(columns.iter().map(cell).collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::UNDERLINED))
}

fn hook_table(stats: &Stats, rates: &Rates) -> Table<'static> {
    let row = |point: &Point| {
        let place = stats
            .programs
            .iter()
            .position(|program| program.hook == point.hook && Some(&program.name) == point.program.as_ref());
        let rate = place.and_then(|place| rates.programs.get(place)).copied().unwrap_or_default();
        let Rate { calls_per_second, applied_per_second, refused_per_second, ns_per_call, cpu_percent, .. } = rate;
        Row::new(vec![
            Cell::new(point.hook.clone()),
            Cell::new(point.program.clone().unwrap_or_else(|| "-".to_owned())),
            right(count(calls_per_second as u64)),
            right(ns_per_call.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.1}"))),
            right(format!("{cpu_percent:.2}")),
            right(count(applied_per_second as u64)),
            right(count(refused_per_second as u64)),
            right(count(point.counts.calls)),
        ])
    };
    let widths = [
        Constraint::Length(20),
        Constraint::Min(16),
        Constraint::Length(12),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(16),
    ];
    let columns = ["hook", "program", ">calls/s", ">ns/call", ">cpu %", ">applied/s", ">refused/s", ">calls"];
    Table::new(stats.points.iter().map(row), widths).header(head(&columns)).block(Block::bordered().title(" hooks "))
}

fn map_table(maps: &[Map]) -> Table<'static> {
    let row = |map: &Map| {
        Row::new(vec![
            Cell::new(map.owner.clone().unwrap_or_else(|| "(pinned)".to_owned())),
            Cell::new(map.name.clone()),
            Cell::new(map.kind.clone()),
            right(count(map.entries)),
            right(count(u64::from(map.max_entries))),
            right(bytes(map.memory_bytes)),
            right(count(map.lost)),
        ])
    };
    let widths = [
        Constraint::Length(20),
        Constraint::Min(16),
        Constraint::Length(16),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(12),
    ];
    let columns = ["program", "map", "type", ">entries", ">of", ">memory", ">lost"];
    Table::new(maps.iter().map(row), widths).header(head(&columns)).block(Block::bordered().title(" maps "))
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::top::rates::tests::stats;

    #[test]
    fn hooks_programs_and_maps_are_on_the_screen() {
        let (before, now) = (stats(1_000_000_000, 6400, 1000), stats(2_000_000_000, 12800, 3000));
        let hello = Hello {
            protocol: 1,
            version: "0.1.0".into(),
            pid: 42,
            duckdb: "v2.0.0".into(),
            carrier: "graft".into(),
            series: "x".into(),
        };
        let mut terminal = Terminal::new(TestBackend::new(130, 20)).unwrap();
        terminal.draw(|frame| draw(frame, &hello, &now, &Rates::between(&before, &now))).unwrap();
        let screen = terminal.backend().to_string();
        for text in
            ["process 42, DuckDB v2.0.0 (graft)", "count_calls", "6 400", "20.0", "percpu_array", "4.0 KiB", "q ends"]
        {
            assert!(screen.contains(text), "{text}:\n{screen}");
        }
        // A terminal of nearly no size is no reason to fail.
        let mut tiny = Terminal::new(TestBackend::new(3, 2)).unwrap();
        tiny.draw(|frame| draw(frame, &hello, &now, &Rates::between(&before, &now))).unwrap();
    }
}
