//! The SMF of the suites that load the UPF: procedures in parts, each part with its figures.

use crate::Outcome;
use crate::host::sessions;
use crate::pktgen::mix::User;
use crate::stage::Stage;
use smf_sim::load::{LoadPlan, ProcedureReport, phase};
use smf_sim::{ModificationSpec, Smf};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How often a session is asked for, and how long after a refusal.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// An associated SMF and the sessions it has established.
pub struct Controller {
    // After the runtime nothing of the SMF runs any more.
    runtime: Runtime,
    smf: Arc<Smf>,
    established: Vec<Established>,
    modified: u32,
    refused: usize,
}

#[derive(Clone, Copy)]
struct Established {
    up_seid: u64,
    number: u32,
    teid: u32,
}

/// What sessions are like, and how they come.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests in flight.
    pub concurrency: usize,
    /// SDF filters besides two wildcard PDRs: each is a PDR more in either direction.
    pub sdf_filters: u32,
}

impl Controller {
    /// With a stage's upf-ctl.
    ///
    /// # Errors
    /// It does not answer.
    pub fn associate(stage: &Stage) -> Outcome<Self> {
        let (upf, local) = stage.n4();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let smf = runtime.block_on(async {
            let smf = Smf::connect(local, upf, local.ip()).await?;
            smf.associate().await?;
            Ok::<_, smf_sim::PfcpError>(smf)
        })?;
        Ok(Self {
            runtime,
            smf: Arc::new(smf),
            established: Vec::new(),
            modified: 0,
            refused: 0,
        })
    }

    /// So many sessions more. One that is refused is asked for again, as an SMF does; how often that was, is counted.
    ///
    /// # Errors
    /// One was refused time and again.
    pub fn establish(&mut self, count: u32, load: Load) -> Outcome<ProcedureReport> {
        let first = self.established.len() as u32;
        let mut missing: Vec<u32> = (first..first + count).collect();
        let mut report = None;
        for _ in 0..ATTEMPTS {
            let (part, established) = self.establish_these(&missing, load);
            let known: HashSet<u32> = established.iter().map(|session| session.number).collect();
            missing.retain(|number| !known.contains(number));
            self.established.extend(established);
            self.refused += missing.len();
            let first_error = part.first_error.clone();
            report.get_or_insert(part);
            if missing.is_empty() {
                break;
            }
            eprintln!(
                "{} sessions were refused: {}",
                missing.len(),
                first_error.unwrap_or_default()
            );
            std::thread::sleep(PAUSE);
        }
        match report {
            Some(report) if missing.is_empty() => Ok(report),
            _ => Err(format!("{} sessions were refused {ATTEMPTS} times", missing.len()).into()),
        }
    }

    fn establish_these(&self, numbers: &[u32], load: Load) -> (ProcedureReport, Vec<Established>) {
        let plan = Arc::new(LoadPlan {
            sessions: numbers.len() as u32,
            concurrency: load.concurrency,
            modifications: 0,
            delete: false,
            first_ue: sessions::ue(0),
            gnb: sessions::GNB.into(),
            sdf_filters: load.sdf_filters,
        });
        let smf = self.smf.clone();
        let work = phase("establish", numbers.to_vec(), load.concurrency, None, move |number| {
            let (smf, plan) = (smf.clone(), plan.clone());
            async move {
                let session = smf.establish(&plan.session(number)).await?;
                Ok(Established {
                    up_seid: session.up_seid,
                    number,
                    teid: session.uplink_teid().unwrap_or(0),
                })
            }
        });
        self.runtime.block_on(work)
    }

    /// How many session setups were refused and asked for again.
    pub const fn refused(&self) -> usize {
        self.refused
    }

    /// Handovers of one session after the other to another tunnel, at a rate or as fast as they are answered.
    ///
    /// # Errors
    /// One was refused.
    pub fn modify(&mut self, count: u32, concurrency: usize, per_second: Option<f64>) -> Outcome<ProcedureReport> {
        let sessions = self.established.len() as u32;
        let of = |n: u32| self.established[(n % sessions.max(1)) as usize].up_seid;
        let items: Vec<u64> = (0..count).map(|i| of(self.modified.wrapping_add(i))).collect();
        self.modified = self.modified.wrapping_add(count);
        let (smf, round) = (self.smf.clone(), self.modified);
        let work = phase("modify", items, concurrency, per_second, move |up_seid| {
            let smf = smf.clone();
            async move {
                let handover = ModificationSpec::handover(sessions::GNB.into(), 0x4000_0000 | round);
                smf.modify(up_seid, &handover).await.map(drop)
            }
        });
        let (report, _) = self.runtime.block_on(work);
        all_succeeded(report)
    }

    /// Heartbeats, which touch no session.
    ///
    /// # Errors
    /// One was not answered.
    pub fn heartbeats(&self, count: u32, concurrency: usize) -> Outcome<ProcedureReport> {
        let smf = self.smf.clone();
        let work = phase("heartbeat", (0..count).collect(), concurrency, None, move |_: u32| {
            let smf = smf.clone();
            async move { smf.heartbeat().await.map(drop) }
        });
        all_succeeded(self.runtime.block_on(work).0)
    }

    /// All sessions.
    ///
    /// # Errors
    /// One was refused.
    pub fn delete(&mut self, concurrency: usize) -> Outcome<ProcedureReport> {
        let smf = self.smf.clone();
        let sessions = std::mem::take(&mut self.established);
        let work = phase("delete", sessions, concurrency, None, move |session: Established| {
            let smf = smf.clone();
            async move { smf.delete(session.up_seid).await.map(drop) }
        });
        all_succeeded(self.runtime.block_on(work).0)
    }

    /// The sessions' users, as their packets show them.
    pub fn users(&self) -> Arc<[User]> {
        let user = |session: &Established| User {
            ue: Ipv4Addr::from_bits(sessions::ue(0).to_bits() + session.number),
            teid: session.teid,
        };
        self.established.iter().map(user).collect()
    }
}

fn all_succeeded(report: ProcedureReport) -> Outcome<ProcedureReport> {
    match &report.first_error {
        None => Ok(report),
        Some(error) => Err(format!("{} of {}s failed: {error}", report.failed, report.procedure).into()),
    }
}
