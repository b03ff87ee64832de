//! The figures, for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    /// The load of the machine before and after: others on it make every figure worse.
    load: [f64; 2],
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    name: &'static str,
    unit: Unit,
    measured: f64,
    /// What the limit was measured to be; none for a goal that is a number of its own.
    limit: Option<f64>,
    /// The limit in words.
    of: &'static str,
    /// What the ratio, or the number, has to be at most, or for a rate at least.
    goal: f64,
    reached: f64,
    met: bool,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Microseconds,
    Milliseconds,
    MiB,
    KiB,
    PerSecond,
}

/// What was measured in one round: the figure and its limit, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) measured: f64,
    pub(crate) limit: f64,
}

impl Figure {
    /// Processor time beside a limit. The ratio is the median over the rounds, so that what
    /// disturbs one of them does no harm.
    pub(crate) fn ratio(
        name: &'static str,
        of: &'static str,
        goal: f64,
        samples: &[Sample],
    ) -> Self {
        let median_of = |value: fn(&Sample) -> f64| median(samples.iter().map(value).collect());
        let reached = median_of(|sample| sample.measured / sample.limit);
        Self {
            name,
            unit: Unit::Microseconds,
            measured: median_of(|sample| sample.measured) / 1e3,
            limit: Some(median_of(|sample| sample.limit) / 1e3),
            of,
            goal,
            reached,
            met: reached <= goal,
        }
    }

    /// A number that has to be at most `goal`, or if it is a rate at least that.
    pub(crate) fn number(name: &'static str, unit: Unit, goal: f64, measured: f64) -> Self {
        let met = if unit == Unit::PerSecond { measured >= goal } else { measured <= goal };
        Self { name, unit, measured, limit: None, of: "", goal, reached: measured, met }
    }

    fn goal(&self) -> String {
        match (self.limit, self.unit) {
            (Some(_), _) => format!("≤ {} × {}", self.goal, self.of),
            (None, Unit::PerSecond) => format!("≥ {}", quantity(self.goal, self.unit)),
            (None, _) => format!("≤ {}", quantity(self.goal, self.unit)),
        }
    }

    fn reached(&self) -> String {
        match self.limit {
            Some(_) => format!("{:.2} ×", self.reached),
            None => quantity(self.reached, self.unit),
        }
    }

    fn limit(&self) -> String {
        self.limit.map(|limit| quantity(limit, self.unit)).unwrap_or_default()
    }

    fn cells(&self) -> [String; 6] {
        let verdict = if self.met { "met" } else { "short" };
        [
            self.name.to_owned(),
            quantity(self.measured, self.unit),
            self.limit(),
            self.reached(),
            self.goal(),
            verdict.to_owned(),
        ]
    }
}

impl Report {
    pub(crate) fn new(load: f64) -> Self {
        Self { figures: Vec::new(), load: [load, load] }
    }

    pub(crate) fn add(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }

    pub(crate) fn end(&mut self, load: f64) {
        let [_, end] = &mut self.load;
        *end = load;
    }

    /// Columns.
    pub(crate) fn table(&self) -> String {
        let rows = self.rows();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..6).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let [before, after] = self.load;
        let _infallible = write!(
            text,
            "\nTimes are of the processor, of the serving process alone; starting and creating \
             entries are by the clock.\nLoad of the machine: {before:.1} before, {after:.1} after."
        );
        text
    }

    /// The table of a document.
    pub(crate) fn markdown(&self) -> String {
        let mut rows = self.rows().into_iter().map(|row| format!("| {} |", row.join(" | ")));
        let head = rows.next().unwrap_or_default();
        let rule = format!("|{}", "---|".repeat(6));
        [head, rule].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
    }

    /// Everything.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    fn rows(&self) -> Vec<[String; 6]> {
        let head = ["figure", "measured", "limit", "reached", "goal", ""].map(str::to_owned);
        std::iter::once(head).chain(self.figures.iter().map(Figure::cells)).collect()
    }
}

fn quantity(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Microseconds => format!("{value:.0} µs"),
        Unit::Milliseconds => format!("{value:.0} ms"),
        Unit::MiB => format!("{value:.1} MiB"),
        Unit::KiB => format!("{value:.1} KiB"),
        Unit::PerSecond => format!("{value:.0}/s"),
    }
}

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(measured: f64, limit: f64) -> Sample {
        Sample { measured, limit }
    }

    #[test]
    fn a_ratio_is_that_of_the_middle_round_and_met_up_to_the_goal() {
        let samples = [sample(4e3, 2e3), sample(9e3, 3e3), sample(1e3, 1e3)];
        let figure = Figure::ratio("a", "echo", 2.0, &samples);
        assert_eq!((figure.reached, figure.measured, figure.limit), (2.0, 4.0, Some(2.0)));
        assert!(figure.met);
        assert!(!Figure::ratio("a", "echo", 1.9, &samples).met);
    }

    #[test]
    fn a_number_is_met_from_its_goal_down_and_a_rate_from_its_goal_up() {
        let met = |unit, measured| Figure::number("a", unit, 10.0, measured).met;
        assert!(met(Unit::MiB, 10.0) && !met(Unit::MiB, 10.1));
        assert!(met(Unit::PerSecond, 10.0) && !met(Unit::PerSecond, 9.9));
    }

    #[test]
    fn figures_are_printed_in_three_forms() {
        let mut report = Report::new(1.0);
        report.add(vec![
            Figure::ratio("first", "echo", 2.0, &[sample(3e3, 2e3)]),
            Figure::number("second", Unit::PerSecond, 10.0, 9.0),
        ]);
        report.end(2.0);
        let table = report.table();
        let lines: Vec<_> = table.lines().take(3).collect();
        let expected = [
            "figure  measured  limit  reached  goal",
            "first   3 µs      2 µs   1.50 ×   ≤ 2 × echo  met",
            "second  9/s              9/s      ≥ 10/s      short",
        ];
        assert_eq!(lines, expected);
        assert!(table.ends_with("1.0 before, 2.0 after."));
        assert!(report.markdown().contains("| second | 9/s |  | 9/s | ≥ 10/s | short |"));
        assert!(report.json().unwrap().contains("\"reached\": 1.5"));
    }
}
