//! The chart of actions over time: stacked bars, one a day, drawn on the server as SVG attributes (the page's
//! Content-Security-Policy has no room for scripts or inline styles), with the same numbers as a table.

use std::collections::{BTreeMap, BTreeSet};

use time::{Date, Duration};

/// Colours of their own; the rest become one.
const SERIES: usize = 5;
/// More bars than this could not be told apart.
const MOST_DAYS: i64 = 366;
const HEIGHT: u32 = 200;
/// Width of a day, and of the bar in it.
const DAY: u32 = 20;
const BAR: u32 = 16;

/// How often something was done on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// In UTC.
    pub day: Date,
    /// Such as `create-user`.
    pub action: String,
    /// How often.
    pub count: u64,
}

/// Ready to be drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Of the drawing, in its own units.
    pub width: u32,
    /// Of the drawing.
    pub height: u32,
    /// Horizontal lines.
    pub grid: Vec<u32>,
    /// Every bar.
    pub bars: Vec<Bar>,
    /// What the colours mean, most frequent first.
    pub series: Vec<Series>,
    /// The numbers, newest day first; days without any are left out.
    pub days: Vec<Day>,
    /// For those who don't see it.
    pub summary: String,
    /// The first day.
    pub first: String,
    /// The last day.
    pub last: String,
    /// The most actions on one day.
    pub highest: u64,
}

/// One colour on one day.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Which colour.
    pub series: usize,
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
    /// What it counts.
    pub title: String,
}

/// One colour.
#[derive(Clone, Debug)]
pub struct Series {
    /// Which colour.
    pub index: usize,
    /// The action, or `other`.
    pub name: String,
    /// Over all days.
    pub total: u64,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Day {
    /// `2026-11-22`.
    pub day: String,
    /// One a series.
    pub counts: Vec<Cell>,
}

/// One cell of the table.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The series.
    pub name: String,
    /// How often.
    pub count: u64,
}

impl Chart {
    /// Of the days from `first` to `last`, both included (the last year of them at most); none where nothing happened.
    pub fn draw(counts: &[Count], first: Date, last: Date) -> Option<Self> {
        let first = first.max(last.checked_sub(Duration::days(MOST_DAYS - 1)).unwrap_or(first));
        let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
        let inside = counts.iter().filter(|c| c.count > 0 && (first..=last).contains(&c.day));
        for count in inside.clone() {
            *totals.entry(&count.action).or_default() += count.count;
        }
        if totals.is_empty() {
            return None;
        }
        let series = series(&totals);
        let mut days: BTreeMap<Date, Vec<u64>> = BTreeMap::new();
        for count in inside {
            let at = series.iter().position(|s| s.name == count.action).unwrap_or(series.len() - 1);
            if let Some(slot) = days.entry(count.day).or_insert_with(|| vec![0; series.len()]).get_mut(at) {
                *slot += count.count;
            }
        }
        let highest = days.values().map(|counts| counts.iter().sum::<u64>()).max().unwrap_or(1);
        let width = u32::try_from((last - first).whole_days() + 1).unwrap_or(1) * DAY;
        let all: u64 = totals.values().sum();
        Some(Self {
            width,
            height: HEIGHT,
            grid: vec![HEIGHT / 4, HEIGHT / 2, HEIGHT * 3 / 4],
            bars: days.iter().flat_map(|(day, counts)| bars(*day, first, counts, &series, highest)).collect(),
            summary: format!("{all} actions from {first} to {last}; {highest} on the busiest day."),
            days: days.iter().rev().map(|(day, counts)| row(*day, counts, &series)).collect(),
            series,
            first: first.to_string(),
            last: last.to_string(),
            highest,
        })
    }
}

/// The most frequent actions get a colour each, in an order that doesn't depend on chance.
fn series(totals: &BTreeMap<&str, u64>) -> Vec<Series> {
    let mut order: Vec<(&str, u64)> = totals.iter().map(|(name, total)| (*name, *total)).collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let kept = if order.len() > SERIES + 1 { SERIES } else { order.len() };
    let mut series: Vec<Series> = order
        .iter()
        .take(kept)
        .enumerate()
        .map(|(index, (name, total))| Series { index, name: (*name).to_owned(), total: *total })
        .collect();
    let rest: BTreeSet<_> = order.iter().skip(kept).collect();
    if !rest.is_empty() {
        let total = rest.iter().map(|(_, total)| total).sum();
        series.push(Series { index: SERIES, name: "other".to_owned(), total });
    }
    series
}

fn bars(day: Date, first: Date, counts: &[u64], series: &[Series], highest: u64) -> Vec<Bar> {
    let x = u32::try_from((day - first).whole_days()).unwrap_or(0) * DAY + (DAY - BAR) / 2;
    let mut below = 0;
    let mut bars = Vec::new();
    for (series, count) in series.iter().zip(counts).filter(|(_, count)| **count > 0) {
        // Heights by the running sum, so that rounding never makes a stack higher than the drawing.
        let lower = scaled(below, highest);
        below += count;
        let upper = scaled(below, highest).max(lower + 1);
        bars.push(Bar {
            series: series.index,
            x,
            y: HEIGHT.saturating_sub(upper),
            width: BAR,
            height: upper - lower,
            title: format!("{day}: {} {count}", series.name),
        });
    }
    bars
}

fn scaled(count: u64, highest: u64) -> u32 {
    let scaled = u128::from(count) * u128::from(HEIGHT) / u128::from(highest.max(1));
    u32::try_from(scaled).unwrap_or(HEIGHT).min(HEIGHT)
}

fn row(day: Date, counts: &[u64], series: &[Series]) -> Day {
    let cells = series.iter().zip(counts).map(|(s, count)| Cell { name: s.name.clone(), count: *count });
    Day { day: day.to_string(), counts: cells.collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::date;

    use super::*;

    fn count(day: Date, action: &str, count: u64) -> Count {
        Count { day, action: action.into(), count }
    }

    #[test]
    fn nothing_is_no_chart() {
        let (first, last) = (date!(2026 - 11 - 01), date!(2026 - 11 - 30));
        assert!(Chart::draw(&[], first, last).is_none());
        assert!(Chart::draw(&[count(date!(2026 - 12 - 01), "sign-in", 3)], first, last).is_none());
    }

    #[test]
    fn rare_actions_become_one_colour_and_nothing_is_lost() {
        let day = date!(2026 - 11 - 22);
        let counts: Vec<_> = (1..=9).map(|n| count(day, &format!("action-{n}"), n)).collect();
        let chart = Chart::draw(&counts, day, day).unwrap();
        assert_eq!(chart.series.len(), SERIES + 1);
        assert_eq!(chart.series[0].name, "action-9");
        assert_eq!(chart.series[SERIES].name, "other");
        assert_eq!(chart.series.iter().map(|s| s.total).sum::<u64>(), 45);
        assert_eq!(chart.highest, 45);
    }

    proptest! {
        #[test]
        fn every_bar_is_inside_and_every_count_in_the_table(
            counts in prop::collection::vec((0i64..40, 0usize..12, 0u64..1_000_000_000_000), 1..80)
        ) {
            let (first, last) = (date!(2026 - 10 - 20), date!(2026 - 11 - 22));
            let counts: Vec<_> = counts
                .into_iter()
                .map(|(day, action, n)| count(first + Duration::days(day), &format!("a{action}"), n))
                .collect();
            let inside: u64 = counts.iter().filter(|c| c.day <= last).map(|c| c.count).sum();
            match Chart::draw(&counts, first, last) {
                None => prop_assert_eq!(inside, 0),
                Some(chart) => {
                    let table: u64 = chart.days.iter().flat_map(|d| &d.counts).map(|c| c.count).sum();
                    prop_assert_eq!(table, inside);
                    for bar in &chart.bars {
                        prop_assert!(bar.x + bar.width <= chart.width);
                        prop_assert!(bar.height >= 1 && bar.height <= HEIGHT + SERIES as u32);
                        prop_assert!(bar.series <= SERIES);
                    }
                }
            }
        }
    }
}
