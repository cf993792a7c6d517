//! Packets a second of p4-switch in memory: one thread, no ports.

use super::population::{HOST, N3, N6, Population};
use super::traffic::{Frame, frames, is_right};
use super::{Effort, Figures, HIT_RATES, Outcome, target};
use p4_switch::Switch;
use p4_switch::ports::memory::MemoryPorts;
use serde_json::json;
use std::time::Instant;

/// How figures call it.
pub const NAME: &str = "packets a second in memory";

/// One population at every hit rate.
pub fn measure(population: &Population, effort: Effort, figures: &mut Figures) -> Outcome<()> {
    let switch = target::embedded(*population)?;
    for hit_rate in HIT_RATES {
        let frames = frames(*population, hit_rate);
        look_at(&switch, &frames)?;
        let rates = rates(&switch, &frames, effort)?;
        let params = json!({
            "sessions": population.sessions, "hit_rate": hit_rate, "inner_bytes": super::traffic::INNER_BYTES, "cores": 1,
        });
        let each = rates.iter().map(|rate| 1e3 / rate).collect();
        figures.add(NAME, target::P4_SWITCH, params.clone(), "Mpps", rates);
        figures.add("time of a packet in memory", target::P4_SWITCH, params, "ns", each);
    }
    Ok(())
}

/// One frame of each port that is known, if any is: it must come out right.
fn look_at(switch: &Switch, frames: &[Frame]) -> Outcome<()> {
    for port in [N3, N6] {
        for (_, frame) in frames.iter().filter(|(ingress, _)| *ingress == port).take(8) {
            match switch.inject(port, frame).as_slice() {
                [out] if out.port == HOST => {}
                [out] if out.port == N3 + N6 - port && is_right(port, &out.bytes) => {}
                other => return Err(format!("of a frame from port {port} became {other:02x?}").into()),
            }
        }
    }
    Ok(())
}

/// Millions of packets a second of each repetition.
fn rates(switch: &Switch, frames: &[Frame], effort: Effort) -> Outcome<Vec<f64>> {
    let frames: Vec<(u32, &[u8])> = frames.iter().map(|(port, bytes)| (*port, bytes.as_slice())).collect();
    let mut ports = MemoryPorts::default();
    let mut rates = Vec::new();
    for repetition in 0..=effort.repetitions {
        // Other work of the machine gets its turn here and not in between.
        std::thread::sleep(effort.each / 8);
        let (mut received, mut sent) = (0_usize, 0_usize);
        let begin = Instant::now();
        while begin.elapsed() < effort.each {
            for piece in frames.chunks(2_048) {
                ports.run(switch, piece, |_, _| sent += 1);
                received += piece.len();
                if begin.elapsed() >= effort.each {
                    break;
                }
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        if sent != received {
            return Err(format!("{received} packets in, {sent} out").into());
        }
        // The first one warms up.
        if repetition > 0 {
            rates.push(received as f64 / seconds / 1e6);
        }
    }
    Ok(rates)
}
