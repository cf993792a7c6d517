//! How long one rule takes: single Writes of one update, as a handover makes them.

use super::veth::percentiles;
use super::{Effort, Figures, Outcome, Program};
use p4runtime::client::Atomicity;
use p4runtime::{Client, TableEntry};
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::Instant;

/// Move sessions from one gNB to another, one by one.
pub async fn measure(
    client: &Client,
    program: &Program,
    subject: &str,
    effort: Effort,
    figures: &mut Figures,
) -> Outcome<()> {
    let mut samples = Vec::new();
    for number in 0..(effort.samples as u32 / 10) {
        let far = TableEntry::new(&program.info, "fars")
            .match_exact("far", 2 * (number % 10_000) + 3)
            .action("tunnel_v4")
            .param("network_instance", 1u32)
            .param("src", super::population::UPF_N3)
            .param("dst", Ipv4Addr::new(10, 3, 0, 2))
            .param("teid", 0x200_0000 + number)
            .param("mark_value", 0u32)
            .param("mark_mask", 0u32);
        let update = far.modify()?;
        let begin = Instant::now();
        client.write(vec![update], Atomicity::ContinueOnError).await?;
        samples.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    percentiles(
        "one rule changed by one Write",
        subject,
        &json!({ "sessions": 10_000 }),
        samples,
        figures,
    );
    Ok(())
}
