//! Progress bars on stderr, shown only for work that takes longer than a second, and the format of numbers and tables.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Mutex;
use std::time::Instant;

/// A progress bar that stays hidden for the first second, and wherever stderr is not a terminal.
pub struct Bar {
    started: Instant,
    what: &'static str,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    /// Returns a bar with this label.
    pub fn new(what: &'static str) -> Bar {
        Bar { started: Instant::now(), what, bar: Mutex::new(None) }
    }

    /// Sets the position.
    pub fn set(&self, done: usize, total: usize) {
        if self.started.elapsed().as_secs_f64() < 1.0 {
            return;
        }
        let mut bar = self.bar.lock().expect("no panic while held");
        let bar = bar.get_or_insert_with(|| styled(total as u64, self.what));
        bar.set_position(done as u64);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = self.bar.lock().expect("no panic while held").take() {
            bar.finish_and_clear();
        }
    }
}

/// `1 row`, `2 rows`.
pub fn plural(n: usize, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A spinner for work of unknown length, on a terminal; where there is none, a line.
pub fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    if bar.is_hidden() {
        eprintln!("{what} …");
    }
    bar.set_style(
        ProgressStyle::with_template("{spinner:.cyan} {prefix} · {elapsed}").expect("a template without mistakes"),
    );
    bar.set_prefix(what);
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

/// A bar with time left; `{msg}` is whatever the caller sets.
pub fn styled(total: u64, what: impl Into<std::borrow::Cow<'static, str>>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    let style = ProgressStyle::with_template("{prefix} {wide_bar:.cyan/dim} {pos}/{len} · {eta} left · {msg}")
        .expect("a template without mistakes")
        .progress_chars("━━─");
    bar.set_style(style);
    bar.set_prefix(what);
    bar
}

/// A figure with four decimals, or a dash.
pub fn figure(value: Option<f64>) -> String {
    value.map_or("–".into(), |v| format!("{v:.4}"))
}

/// A large number in groups of three: 60,000.
pub fn count(n: usize) -> String {
    vibrissa::report::words::count(n as u64)
}

/// A squared error: as many digits as it needs, whatever its units.
pub fn error(value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(v) if v == 0.0 || (1e-3..1e4).contains(&v) => format!("{v:.5}"),
        Some(v) => format!("{v:.3e}"),
    }
}

/// A duration: 850 ms, 12.3 s, 4 min 10 s.
pub fn seconds(s: f64) -> String {
    match s {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{} min {:.0} s", (s / 60.0) as u64, s % 60.0),
    }
}

/// Rows of cells as aligned columns; the first column is text, the others numbers.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            line += &if c == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn tables_align() {
        let rows = [vec!["a".to_owned(), "1".into()], vec!["long".into(), "12".into()]];
        assert_eq!(super::table(&rows), "a      1\nlong  12\n");
    }
}
