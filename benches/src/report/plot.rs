//! One plot of a group: for each figure the candidates' ratios to one of them,
//! as bars on a logarithmic axis around 1.

use std::fmt::Write;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Which candidate, by its place in the legend.
    pub candidate: usize,
    /// To the reference; above 1 is worse.
    pub ratio: f64,
}

/// The bars of one figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// Workload and figure.
    pub label: String,
    /// In the order of the legend.
    pub bars: Vec<Bar>,
}

const LEFT: f64 = 250.0;
const WIDTH: f64 = 640.0;
const BAR: f64 = 9.0;
const GAP: f64 = 8.0;
const LINE: f64 = 16.0;
/// Colours that people who see few of them can tell apart (Okabe and Ito), and
/// darker ones for more candidates.
const COLOURS: [&str; 12] = [
    "#999999", "#000000", "#555555", "#e69f00", "#d55e00", "#cc79a7", "#0072b2", "#56b4e9", "#009e73",
    "#44aa44", "#117733", "#882255",
];

/// The plot as an SVG document.
pub fn svg(title: &str, legend: &[String], rows: &[Row]) -> String {
    let axis = Axis::over(rows);
    let head = LINE * (legend.len().div_ceil(3) as f64 + 3.0);
    let body: f64 = rows.iter().map(|row| row.bars.len() as f64 * BAR + GAP).sum();
    let (width, height) = (LEFT + WIDTH + 60.0, head + body + 2.0 * LINE);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    for (place, name) in legend.iter().enumerate() {
        let (x, y) = (8.0 + (place % 3) as f64 * 300.0, LINE * (2.0 + (place / 3) as f64));
        rectangle(&mut text, x, y, 10.0, 10.0, colour(place));
        words(&mut text, x + 16.0, y + 9.0, "start", name);
    }
    for tick in axis.ticks() {
        let x = axis.place(tick);
        let (top, bottom, strong) = (head - 4.0, head + body, if tick == 1.0 { "#000" } else { "#ddd" });
        line(&mut text, x, top, bottom, strong);
        words(&mut text, x, bottom + LINE, "middle", &format!("{tick}×"));
    }
    let mut y = head;
    for row in rows {
        words(&mut text, LEFT - 8.0, y + row.bars.len() as f64 * BAR / 2.0 + 4.0, "end", &row.label);
        for bar in &row.bars {
            let (one, end) = (axis.place(1.0), axis.place(bar.ratio));
            rectangle(
                &mut text,
                one.min(end),
                y,
                (end - one).abs().max(1.0),
                BAR - 1.0,
                colour(bar.candidate),
            );
            words(&mut text, one.max(end) + 3.0, y + BAR - 1.0, "start", &crate::figure::digits(bar.ratio));
            y += BAR;
        }
        y += GAP;
    }
    text.push_str("</svg>\n");
    text
}

/// A logarithmic axis from a power of ten to a power of ten.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn over(rows: &[Row]) -> Axis {
        let ratios = rows.iter().flat_map(|row| &row.bars).map(|bar| bar.ratio.log10());
        let (low, high) = ratios.fold((0.0_f64, 0.0_f64), |(low, high), r| (low.min(r), high.max(r)));
        Axis { low: low.floor(), high: high.ceil().max(low.floor() + 1.0) }
    }

    fn place(&self, ratio: f64) -> f64 {
        LEFT + WIDTH * (ratio.log10() - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> Vec<f64> {
        (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power)).collect()
    }
}

fn colour(place: usize) -> &'static str {
    COLOURS[place % COLOURS.len()]
}

// Writing to a String does not fail; the results are dropped knowingly.
fn rectangle(text: &mut String, x: f64, y: f64, width: f64, height: f64, fill: &str) {
    writeln!(
        text,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
    )
    .ok();
}

fn line(text: &mut String, x: f64, top: f64, bottom: f64, stroke: &str) {
    writeln!(
        text,
        "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"{stroke}\"/>"
    )
    .ok();
}

fn words(text: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(words)).ok();
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let bars = vec![Bar { candidate: 0, ratio: 0.5 }, Bar { candidate: 1, ratio: 20.0 }];
        vec![Row { label: "walk: <cold>".to_owned(), bars }]
    }

    #[test]
    fn the_axis_reaches_powers_of_ten_and_one() {
        let axis = Axis::over(&rows());
        assert_eq!(axis.ticks(), [0.1, 1.0, 10.0, 100.0]);
        assert_eq!((axis.place(0.1), axis.place(100.0)), (LEFT, LEFT + WIDTH));
        assert_eq!(Axis::over(&[]).ticks(), [1.0, 10.0]);
    }

    #[test]
    fn a_plot_has_a_bar_for_each_and_escapes_what_it_shows() {
        let text = svg("a & b", &["one".to_owned(), "two".to_owned()], &rows());
        assert_eq!(text.matches("<rect").count(), 1 + 2 + 2);
        assert!(text.contains("a &amp; b") && text.contains("walk: &lt;cold&gt;"));
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    }
}
