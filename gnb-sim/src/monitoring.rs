//! QoS monitoring as a gNB answers it (TS 23.501 5.33.3.2): a downlink packet with a time stamp is answered by the next
//! uplink packet of its QoS flow, with both time stamps and when that leaves. If none comes before the next question, or
//! the UE sends in another QoS flow, a packet without content answers.
//!
//! There is no radio here, so the delay of the air is what the configuration says.

use crate::report::MonitoringReport;
use gtpu::{PduSessionContainer, TimeStamp, UplinkInformation, UplinkTimeStamps, write_gpdu_header};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the gNB pretends that its air takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AirDelay {
    /// To the UE, milliseconds.
    pub downlink_ms: u32,
    /// From the UE, milliseconds.
    pub uplink_ms: u32,
}

/// A question that is to be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    qfi: u8,
    sent: u64,
    received: TimeStamp,
}

/// One tunnel's monitoring: its downlink asks, its uplink answers.
#[derive(Debug)]
pub(crate) struct Monitor {
    teid_ul: u32,
    upf: SocketAddr,
    /// QoS flow of the UE's packets.
    qfi: u8,
    air: Option<AirDelay>,
    asked: Mutex<Option<Asked>>,
    /// There is a question: so that a packet need not take the lock to find out.
    is_asked: AtomicBool,
    questions: AtomicU64,
    answers: AtomicU64,
    empty_answers: AtomicU64,
}

fn now() -> TimeStamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimeStamp::from_unix_ns(since.as_nanos() as u64)
}

impl Monitor {
    pub(crate) fn new(teid_ul: u32, upf: SocketAddr, qfi: u8, air: Option<AirDelay>) -> Self {
        Self {
            teid_ul,
            upf,
            qfi,
            air,
            asked: Mutex::default(),
            is_asked: AtomicBool::new(false),
            questions: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            empty_answers: AtomicU64::new(0),
        }
    }

    pub(crate) fn air(&self) -> Option<AirDelay> {
        self.air
    }

    fn swap(&self, asked: Option<Asked>) -> Option<Asked> {
        let mut place = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_asked.store(asked.is_some(), Relaxed);
        std::mem::replace(&mut place, asked)
    }

    /// A downlink packet of this QoS flow asks. What cannot wait for a packet of the UE's is answered at once.
    pub(crate) fn ask(&self, qfi: u8, sent: u64, socket: &UdpSocket) {
        self.questions.fetch_add(1, Relaxed);
        let asked = Asked {
            qfi,
            sent,
            received: now(),
        };
        let at_once = if qfi == self.qfi {
            self.swap(Some(asked))
        } else {
            Some(asked)
        };
        let Some(asked) = at_once else { return };
        let mut message = [0; 64];
        let container = self.answer(asked);
        if let Ok(len) = write_gpdu_header(&mut message, self.teid_ul, 0, Some(&container)) {
            self.empty_answers.fetch_add(1, Relaxed);
            // A lost answer is one measurement less.
            drop(socket.send_to(&message[..len], self.upf));
        }
    }

    /// The container of the next packet from the UE, if it has to answer.
    #[inline]
    pub(crate) fn next(&self) -> Option<PduSessionContainer> {
        if !self.is_asked.load(Relaxed) {
            return None;
        }
        let container = self.answer(self.swap(None)?);
        self.answers.fetch_add(1, Relaxed);
        Some(container)
    }

    pub(crate) fn report(&self) -> MonitoringReport {
        MonitoringReport {
            questions: self.questions.load(Relaxed),
            answers: self.answers.load(Relaxed),
            empty_answers: self.empty_answers.load(Relaxed),
        }
    }

    fn answer(&self, asked: Asked) -> PduSessionContainer {
        PduSessionContainer::Uplink(UplinkInformation {
            qfi: asked.qfi,
            time_stamps: Some(UplinkTimeStamps {
                downlink_sent: asked.sent,
                downlink_received: asked.received.0,
                uplink_sent: now().0,
            }),
            downlink_delay: self.air.map(|air| air.downlink_ms),
            uplink_delay: self.air.map(|air| air.uplink_ms),
            ..UplinkInformation::default()
        })
    }
}
