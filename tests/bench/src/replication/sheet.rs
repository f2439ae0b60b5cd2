//! The sheet of a run: each figure beside its bar.

use crate::table::Table;

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// Anything: it is there to explain the others.
    Free,
}

/// Something that was measured.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    pub(super) bar: Bar,
}

impl Figure {
    /// Whether the bar is held. A figure that is no number holds none.
    fn is_ok(&self) -> bool {
        match self.bar {
            Bar::AtMost(limit) => self.value <= limit,
            Bar::AtLeast(limit) => self.value >= limit,
            Bar::Free => true,
        }
    }

    fn cells(&self, chapter: &str) -> Vec<String> {
        let written = |value: f64| format!("{value:.2} {}", self.unit).trim_end().to_owned();
        let bar = match self.bar {
            Bar::AtMost(limit) => format!("≤ {}", written(limit)),
            Bar::AtLeast(limit) => format!("≥ {}", written(limit)),
            Bar::Free => "-".to_owned(),
        };
        let ok = match (self.bar, self.is_ok()) {
            (Bar::Free, _) => "-",
            (_, true) => "yes",
            (_, false) => "NO",
        };
        vec![format!("{chapter}: {}", self.what), written(self.value), bar, ok.to_owned()]
    }
}

/// All figures of a run, and what has to be known about them.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    chapters: Vec<(&'static str, Vec<Figure>)>,
    remarks: Vec<String>,
}

impl Sheet {
    /// Begins the figures of a measure.
    pub(super) fn chapter(&mut self, name: &'static str) {
        self.chapters.push((name, Vec::new()));
    }

    /// Adds a figure to the chapter that was begun last.
    ///
    /// # Panics
    /// If none was begun.
    pub(super) fn add(&mut self, figure: Figure) {
        let (name, figures) = self.chapters.last_mut().expect("a chapter was begun");
        eprintln!("{}", figure.cells(name).join("   "));
        figures.push(figure);
    }

    /// Notes that the chapter that was begun last came to no end: that is a missed bar.
    ///
    /// # Panics
    /// If none was begun.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        let what = "came to its end".to_owned();
        self.add(Figure { what, value: f64::NAN, unit: "", bar: Bar::AtLeast(1.0) });
        self.remark(format!("{error:#}"));
    }

    /// Adds a sentence on how the figures of the chapter came about.
    pub(super) fn remark(&mut self, text: String) {
        let name = self.chapters.last().map_or("", |(name, _)| *name);
        self.remarks.push(format!("{name}: {text}"));
    }

    /// How many bars there are.
    pub(crate) fn bars(&self) -> usize {
        self.figures().filter(|figure| figure.bar != Bar::Free).count()
    }

    /// How many of them are missed.
    pub(crate) fn missed(&self) -> usize {
        self.figures().filter(|figure| !figure.is_ok()).count()
    }

    /// The sheet as a Markdown table with its remarks.
    pub(crate) fn render(&self) -> String {
        let mut table = Table::new(&["replication", "measured", "bar", "ok"]);
        for (name, figures) in &self.chapters {
            figures.iter().for_each(|figure| table.row(figure.cells(name)));
        }
        let remarks: String = self.remarks.iter().map(|remark| format!("\n- {remark}")).collect();
        format!("{}{remarks}\n", table.render())
    }

    fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.chapters.iter().flat_map(|(_, figures)| figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: f64, bar: Bar, ok: bool) {
        let figure = Figure { what: String::new(), value, unit: "x", bar };
        assert_eq!(figure.is_ok(), ok, "{value} {bar:?}");
    }

    #[test]
    fn a_bar_is_held_up_to_itself() {
        check(1.6, Bar::AtMost(1.6), true);
        check(1.601, Bar::AtMost(1.6), false);
        check(0.8, Bar::AtLeast(0.8), true);
        check(0.799, Bar::AtLeast(0.8), false);
        check(9.0, Bar::Free, true);
    }

    #[test]
    fn what_is_no_number_holds_no_bar() {
        check(f64::NAN, Bar::AtMost(1.6), false);
        check(f64::NAN, Bar::AtLeast(0.8), false);
    }

    #[test]
    fn missed_bars_are_counted_and_shown() {
        let mut sheet = Sheet::default();
        sheet.chapter("bytes");
        for (value, bar) in [(1.5, Bar::AtMost(1.6)), (1.7, Bar::AtMost(1.6)), (3.0, Bar::Free)] {
            sheet.add(Figure { what: "pair".to_owned(), value, unit: "x", bar });
        }
        sheet.remark("Said.".to_owned());
        assert_eq!((sheet.bars(), sheet.missed()), (2, 1));
        let text = sheet.render();
        assert!(text.contains("| bytes: pair |   1.70 x | ≤ 1.60 x |  NO |"), "{text}");
        assert!(text.ends_with("\n- bytes: Said.\n"), "{text}");
        sheet.fail(&anyhow::anyhow!("no node"));
        assert_eq!((sheet.bars(), sheet.missed()), (3, 2), "a measure without an end is a miss");
    }
}
