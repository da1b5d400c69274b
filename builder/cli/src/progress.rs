//! What is happening, while it happens: bars on a terminal, lines elsewhere.

use std::{collections::BTreeMap, io::Write as _, sync::Mutex, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::app::App;

/// Shows the steps of several things that go on at once.
pub struct Steps {
    bars: Option<MultiProgress>,
    quiet: bool,
    by_name: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Steps {
    /// Begins to show.
    pub fn new(app: &App) -> Self {
        Self {
            bars: (app.terminal && !app.json).then(MultiProgress::new),
            quiet: app.json,
            by_name: Mutex::new(BTreeMap::new()),
        }
    }

    /// Says what `name` is doing now; the empty name is the work as a whole.
    pub fn say(&self, name: &str, text: &str) {
        if self.quiet {
            return;
        }
        let Some(bars) = &self.bars else {
            let prefix = if name.is_empty() {
                String::new()
            } else {
                format!("{name}: ")
            };
            let _ = writeln!(anstream::stderr(), "{prefix}{text}");
            return;
        };
        let Ok(mut by_name) = self.by_name.lock() else {
            return;
        };
        let bar = by_name.entry(name.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix:16} {msg} {elapsed:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(text.to_owned());
    }

    /// Removes the bars.
    pub fn finish(&self) {
        let Ok(by_name) = self.by_name.lock() else {
            return;
        };
        for bar in by_name.values() {
            bar.finish_and_clear();
        }
    }
}

impl rolesmith_lab::Progress for Steps {
    fn step(&self, node: Option<&str>, text: &str) {
        self.say(node.unwrap_or(""), text);
    }
}
