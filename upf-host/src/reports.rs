//! Owns what lcores tell the management thread. Two bounded queues: flows for a P4 target come in floods, and must not
//! cost the report that wakes an idle user.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use upf_model::batch::{Event, Flow};

/// Wakes the management thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// An lcore's end. What does not fit is not told, never waited for.
#[derive(Clone)]
pub struct Reporter {
    events: SyncSender<Event>,
    flows: SyncSender<Flow>,
    wake: Option<Wake>,
}

/// The management thread's end.
pub struct Reports {
    events: Receiver<Event>,
    flows: Receiver<Flow>,
}

impl Reporter {
    /// Both ends; each queue holds `depth` reports. Clone the first for every lcore.
    pub fn channel(depth: usize, wake: Option<Wake>) -> (Self, Reports) {
        let (events_in, events) = mpsc::sync_channel(depth);
        let (flows_in, flows) = mpsc::sync_channel(depth);
        let reporter = Self {
            events: events_in,
            flows: flows_in,
            wake,
        };
        (reporter, Reports { events, flows })
    }

    /// Report anything but a flow. False: there was no room.
    pub fn event(&self, event: Event) -> bool {
        let told = self.events.try_send(event).is_ok();
        self.wake();
        told
    }

    /// Report a flow. False: there was no room.
    pub fn flow(&self, flow: Flow) -> bool {
        let told = self.flows.try_send(flow).is_ok();
        self.wake();
        told
    }

    /// There is something for the management thread to look at.
    pub fn wake(&self) {
        if let Some(wake) = &self.wake {
            wake();
        }
    }
}

impl Reports {
    /// What has been reported so far, flows last.
    pub fn try_iter(&self) -> impl Iterator<Item = Event> {
        self.events.try_iter().chain(self.flows.try_iter().map(Event::Flow))
    }
}
