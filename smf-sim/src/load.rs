//! The load generator: establishes, modifies and deletes many sessions, some at a time, and times each procedure.

use crate::error::PfcpError;
use crate::modification::ModificationSpec;
use crate::session::{FlowQos, SessionSpec};
use crate::smf::Smf;
use crate::wire::UeIps;
use serde::Serialize;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What to do.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Sessions to establish, one UE each.
    pub sessions: u32,
    /// Requests in flight.
    pub concurrency: usize,
    /// Modifications of each session, each one a handover to another TEID.
    pub modifications: u32,
    /// Delete the sessions at the end.
    pub delete: bool,
    /// UE addresses count up from here.
    pub first_ue: Ipv4Addr,
    /// The gNB's N3 address.
    pub gnb: IpAddr,
    /// SDF filters of each session besides the two wildcard PDRs.
    pub sdf_filters: u32,
}

/// One procedure's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcedureReport {
    /// `establish`, `modify` or `delete`.
    pub procedure: &'static str,
    /// Answered with success.
    pub succeeded: usize,
    /// Refused or not answered.
    pub failed: usize,
    /// The first failure, in words.
    pub first_error: Option<String>,
    /// Wall time of the whole phase, seconds.
    pub seconds: f64,
    /// Successes per second.
    pub rate: f64,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// 99.9th percentile, microseconds.
    pub p999_us: f64,
    /// The slowest, microseconds.
    pub max_us: f64,
}

impl ProcedureReport {
    fn new(procedure: &'static str, took: Duration, mut latencies: Vec<Duration>, errors: Vec<String>) -> Self {
        latencies.sort_unstable();
        let seconds = took.as_secs_f64();
        Self {
            procedure,
            succeeded: latencies.len(),
            failed: errors.len(),
            first_error: errors.into_iter().next(),
            seconds,
            rate: latencies.len() as f64 / seconds.max(f64::MIN_POSITIVE),
            p50_us: quantile(&latencies, 0.50),
            p99_us: quantile(&latencies, 0.99),
            p999_us: quantile(&latencies, 0.999),
            max_us: quantile(&latencies, 1.0),
        }
    }
}

impl std::fmt::Display for ProcedureReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<10} {:>8} ok {:>6} failed {:>10.0}/s   p50 {:>8.0} us   p99 {:>8.0} us   max {:>8.0} us",
            self.procedure, self.succeeded, self.failed, self.rate, self.p50_us, self.p99_us, self.max_us
        )?;
        match &self.first_error {
            Some(error) => write!(f, "\n           first failure: {error}"),
            None => Ok(()),
        }
    }
}

/// Nearest-rank quantile of sorted latencies, microseconds; zero if there are none.
fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .map_or(0.0, |d| d.as_secs_f64() * 1e6)
}

/// Runs the plan over an SMF that is associated already. Failures are counted, not fatal.
pub async fn run(smf: &Arc<Smf>, plan: &LoadPlan) -> Vec<ProcedureReport> {
    let mut reports = Vec::new();
    let (asking, wanted) = (Arc::clone(smf), plan.clone());
    let (establish, sessions) = phase(
        "establish",
        (0..plan.sessions).collect(),
        plan.concurrency,
        None,
        move |n| {
            let (smf, spec) = (Arc::clone(&asking), wanted.session(n));
            async move { smf.establish(&spec).await.map(|e| e.up_seid) }
        },
    )
    .await;
    reports.push(establish);

    if plan.modifications > 0 {
        let rounds = (0..plan.modifications)
            .flat_map(|round| sessions.iter().map(move |s| (round, *s)))
            .collect();
        let (asking, gnb) = (Arc::clone(smf), plan.gnb);
        let (modify, _) = phase("modify", rounds, plan.concurrency, None, move |(round, up_seid)| {
            let smf = Arc::clone(&asking);
            let handover = ModificationSpec::handover(gnb, 0x4000_0000 | round);
            async move { smf.modify(up_seid, &handover).await.map(|_| up_seid) }
        })
        .await;
        reports.push(modify);
    }
    if plan.delete {
        let asking = Arc::clone(smf);
        let (delete, _) = phase("delete", sessions, plan.concurrency, None, move |up_seid| {
            let smf = Arc::clone(&asking);
            async move { smf.delete(up_seid).await.map(|_| up_seid) }
        })
        .await;
        reports.push(delete);
    }
    reports
}

impl LoadPlan {
    /// What the session of this number is established with.
    pub fn session(&self, n: u32) -> SessionSpec {
        let ue = UeIps::v4(Ipv4Addr::from_bits(self.first_ue.to_bits().wrapping_add(n)));
        let spec = SessionSpec::basic(ue, self.gnb, n.wrapping_add(1)).with_mbr(100_000, 100_000);
        (0..self.sdf_filters).fold(spec, |spec, i| {
            let flow = format!("permit out 17 from any {} to assigned", 1000 + i % 60_000);
            spec.with_sdf(100 + i, &flow, FlowQos::default())
        })
    }
}

/// One procedure for each item: `concurrency` tasks take items, in order, until there are none; with `per_second`, no
/// sooner than that rate allows. Its figures, and the results of those that succeeded.
pub async fn phase<T, R, F, Fut>(
    name: &'static str,
    items: Vec<T>,
    concurrency: usize,
    per_second: Option<f64>,
    procedure: F,
) -> (ProcedureReport, Vec<R>)
where
    T: Copy + Send + Sync + 'static,
    R: Send + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, PfcpError>> + Send + 'static,
{
    let work = Arc::new((items, AtomicUsize::new(0), procedure));
    let start = Instant::now();
    let workers: Vec<_> = (0..concurrency.max(1))
        .map(|_| {
            let work = Arc::clone(&work);
            tokio::spawn(async move {
                let (items, next, procedure) = &*work;
                let (mut latencies, mut results, mut errors) = (Vec::new(), Vec::new(), Vec::new());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { break };
                    if let Some(rate) = per_second {
                        let due = start + Duration::from_secs_f64(number as f64 / rate);
                        tokio::time::sleep_until(due.into()).await;
                    }
                    let asked = Instant::now();
                    match procedure(*item).await {
                        Ok(result) => {
                            latencies.push(asked.elapsed());
                            results.push(result);
                        }
                        Err(error) => errors.push(error.to_string()),
                    }
                }
                (latencies, results, errors)
            })
        })
        .collect();
    let (mut latencies, mut results, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for worker in workers {
        // A worker ends early only by a panic, which its own backtrace reports.
        if let Ok((l, r, e)) = worker.await {
            latencies.extend(l);
            results.extend(r);
            errors.extend(e);
        }
    }
    (ProcedureReport::new(name, start.elapsed(), latencies, errors), results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let sorted: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        let near = |q, us: f64| (quantile(&sorted, q) - us).abs() < 1e-6;
        assert!(near(0.5, 50.0) && near(0.99, 99.0) && near(1.0, 100.0));
        assert!(quantile(&[], 0.5) == 0.0);
    }
}
