//! What was measured over time, drawn: into a PNG file and for a terminal.

use embedded_graphics::Pixel;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_6X10;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Point, Primitive, Size};
use embedded_graphics::primitives::{Line, PrimitiveStyle};
use embedded_graphics::text::Text;
use std::convert::Infallible;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

/// A quantity over time.
pub struct Panel {
    /// With its unit.
    pub title: String,
    /// What is drawn into it.
    pub series: Vec<Series>,
}

/// One line of a panel.
pub struct Series {
    /// Whose.
    pub name: String,
    /// Seconds, value; none: there is no value then.
    pub points: Vec<(f64, Option<f64>)>,
}

/// Something that happened.
pub struct Mark {
    /// When, seconds.
    pub at_s: f64,
    /// What.
    pub what: String,
}

const COLOURS: [Rgb888; 4] = [
    Rgb888::new(0xc0, 0x39, 0x2b),
    Rgb888::new(0x1f, 0x61, 0x8d),
    Rgb888::new(0x1e, 0x84, 0x49),
    Rgb888::new(0x7d, 0x3c, 0x98),
];
const GREY: Rgb888 = Rgb888::new(0xb0, 0xb0, 0xb0);
/// Size of the picture; of it the margins around a panel.
const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 260;
const LEFT: i32 = 60;
const RIGHT: i32 = 20;
const TOP: i32 = 40;
const BOTTOM: i32 = 30;

impl Panel {
    fn highest(&self) -> f64 {
        let values = self
            .series
            .iter()
            .flat_map(|s| &s.points)
            .filter_map(|(_, value)| *value);
        values.fold(f64::MIN_POSITIVE, f64::max)
    }
}

/// Writes the panels, one below the other, over `seconds`.
///
/// # Errors
/// The file cannot be written.
pub fn png(path: &Path, panels: &[Panel], marks: &[Mark], seconds: f64) -> io::Result<()> {
    let mut canvas = Canvas::new(WIDTH, PANEL_HEIGHT * panels.len() as u32);
    for (panel, top) in panels.iter().zip((0..).step_by(PANEL_HEIGHT as usize)) {
        draw(&mut canvas, panel, marks, seconds, top);
    }
    let mut encoder = png::Encoder::new(
        BufWriter::new(File::create(path)?),
        canvas.size.width,
        canvas.size.height,
    );
    encoder.set_color(png::ColorType::Rgb);
    let bytes: Vec<u8> = canvas.pixels.iter().flat_map(|c| [c.r(), c.g(), c.b()]).collect();
    encoder.write_header()?.write_image_data(&bytes)?;
    Ok(())
}

fn draw(canvas: &mut Canvas, panel: &Panel, marks: &[Mark], seconds: f64, top: i32) {
    let (width, height) = (WIDTH as i32 - LEFT - RIGHT, PANEL_HEIGHT as i32 - TOP - BOTTOM);
    let highest = panel.highest();
    let x = |at: f64| LEFT + (at / seconds * f64::from(width)) as i32;
    let y = |value: f64| top + TOP + height - (value / highest * f64::from(height)) as i32;
    canvas.text(&panel.title, LEFT, top + 14, Rgb888::BLACK);
    for quarter in 0..=4 {
        let value = highest * f64::from(quarter) / 4.0;
        canvas.line((LEFT, y(value)), (LEFT + width, y(value)), GREY);
        canvas.text(&short(value), 6, y(value) + 3, Rgb888::BLACK);
    }
    for second in 0..=seconds as i32 {
        canvas.text(
            &second.to_string(),
            x(second.into()) - 3,
            top + TOP + height + 14,
            Rgb888::BLACK,
        );
    }
    for (mark, row) in marks.iter().zip(0..) {
        canvas.line(
            (x(mark.at_s), top + TOP - 4),
            (x(mark.at_s), top + TOP + height),
            Rgb888::BLACK,
        );
        canvas.text(&mark.what, x(mark.at_s) + 3, top + 26 + 10 * (row % 2), Rgb888::BLACK);
    }
    let mut legend = WIDTH as i32 - RIGHT;
    for (series, colour) in panel.series.iter().zip(COLOURS.iter().cycle()) {
        legend -= 6 * series.name.len() as i32 + 12;
        canvas.text(&series.name, legend, top + 14, *colour);
        for pair in series.points.windows(2) {
            if let [(from, Some(a)), (to, Some(b))] = pair {
                canvas.line((x(*from), y(*a)), (x(*to), y(*b)), *colour);
            }
        }
    }
}

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A picture in memory.
struct Canvas {
    size: Size,
    pixels: Vec<Rgb888>,
}

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        Self {
            size: Size::new(width, height),
            pixels: vec![Rgb888::WHITE; (width * height) as usize],
        }
    }

    fn line(&mut self, from: (i32, i32), to: (i32, i32), colour: Rgb888) {
        let line = Line::new(from.into(), to.into()).into_styled(PrimitiveStyle::with_stroke(colour, 1));
        let Ok(()) = line.draw(self);
    }

    fn text(&mut self, text: &str, x: i32, y: i32, colour: Rgb888) {
        let text = Text::new(text, Point::new(x, y), MonoTextStyle::new(&FONT_6X10, colour));
        let Ok(_) = text.draw(self);
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, colour) in pixels {
            let inside = |at: i32, bound: u32| u32::try_from(at).ok().filter(|at| *at < bound);
            if let (Some(x), Some(y)) = (inside(x, self.size.width), inside(y, self.size.height)) {
                self.pixels[(y * self.size.width + x) as usize] = colour;
            }
        }
        Ok(())
    }
}

/// Eighths of a line, from nothing to full.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The panels for a terminal: a row of blocks for each series, `columns` of them, and the marks below.
pub fn terminal(panels: &[Panel], marks: &[Mark], seconds: f64, columns: usize) -> String {
    let mut text = String::new();
    let column = |at: f64| ((at / seconds * columns as f64) as usize).min(columns.saturating_sub(1));
    for panel in panels {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {}, full block {}", panel.title, short(panel.highest()));
        for series in &panel.series {
            let mut highest = vec![None::<f64>; columns];
            for (at, value) in &series.points {
                if let Some(value) = value {
                    let cell = &mut highest[column(*at)];
                    *cell = Some(cell.map_or(*value, |before| before.max(*value)));
                }
            }
            let eighths = |value: f64| (value / panel.highest() * 8.0).ceil().clamp(0.0, 8.0) as usize;
            let row: String = highest.iter().map(|v| v.map_or('·', |v| BLOCKS[eighths(v)])).collect();
            let _ = writeln!(text, "  {:>12} |{row}|", series.name);
        }
    }
    for mark in marks {
        let _ = writeln!(
            text,
            "  {:>12}  {}^ {:.1} s: {}",
            "",
            " ".repeat(column(mark.at_s)),
            mark.at_s,
            mark.what
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel() -> Panel {
        let points = (0..10)
            .map(|i| (f64::from(i), (i != 5).then_some(f64::from(i))))
            .collect();
        Panel {
            title: "delay, ms".into(),
            series: vec![Series {
                name: "call".into(),
                points,
            }],
        }
    }

    #[test]
    fn a_terminal_has_a_block_for_each_column_and_a_dot_where_nothing_is_known() {
        let mark = Mark {
            at_s: 3.0,
            what: "event".into(),
        };
        let text = terminal(&[panel()], &[mark], 10.0, 10);
        assert!(text.contains("| ▁▂▃▄·▆▇██|"), "{text}");
        assert!(text.contains("   ^ 3.0 s: event"), "{text}");
    }

    #[test]
    fn a_picture_is_a_png_with_something_on_it() {
        let path = std::env::temp_dir().join(format!("upf-plot-{}.png", std::process::id()));
        png(&path, &[panel(), panel()], &[], 10.0).unwrap();
        let decoder = png::Decoder::new(io::BufReader::new(File::open(&path).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((info.width, info.height), (WIDTH, 2 * PANEL_HEIGHT));
        assert!(pixels.chunks(3).any(|p| p == [0xc0, 0x39, 0x2b]), "the series' colour");
    }
}
