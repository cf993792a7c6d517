//! Nanoseconds per header, read and written: `cargo run --release -p gtpu --example header_cost`.

use gtpu::{GPdu, GpduTemplate, Header, PduSessionContainer, parse_gpdu, write_gpdu_header};
use std::hint::black_box;
use std::time::Instant;

/// The fastest of many runs: what other work on the machine adds is not ours.
fn measure(name: &str, mut once: impl FnMut()) {
    const TIMES: u32 = 20_000;
    let run = |_| {
        let start = Instant::now();
        for _ in 0..TIMES {
            once();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    };
    let fastest = (0..1000).map(run).fold(f64::INFINITY, f64::min);
    println!("{name:<46} {fastest:5.1} ns");
}

fn main() -> Result<(), gtpu::Error> {
    let container = PduSessionContainer::uplink(9);
    let (mut plain, mut extended) = ([0x45; 96], [0x45; 96]);
    write_gpdu_header(&mut plain, 1, 64, None)?;
    write_gpdu_header(&mut extended, 1, 64, Some(&container))?;
    measure("parse_gpdu, 8 octets", || {
        let _ = black_box(parse_gpdu(black_box(&plain)));
    });
    measure("parse_gpdu, 16 octets with QFI", || {
        let _ = black_box(parse_gpdu(black_box(&extended)));
    });
    measure("Header::parse and GPdu::from_header, the same", || {
        let _ = black_box(Header::parse(black_box(&extended)).and_then(|h| GPdu::from_header(&h)));
    });
    let template = GpduTemplate::downlink(1, 9, false, None);
    let mut buffer = [0; 16];
    measure("GpduTemplate::write, 16 octets", || {
        let _ = black_box(black_box(&template).write(black_box(&mut buffer), black_box(64)));
    });
    measure("write_gpdu_header, the same", || {
        let _ = black_box(write_gpdu_header(
            black_box(&mut buffer),
            1,
            black_box(64),
            Some(black_box(&container)),
        ));
    });
    Ok(())
}
