//! What Prometheus is told: sessions, PFCP messages by type and cause, and the data planes' counters.
//!
//! | metric | labels |
//! | --- | --- |
//! | `upf_sessions` | |
//! | `upf_sessions_established_total`, `upf_sessions_removed_total` | `reason` of removals |
//! | `upf_pfcp_messages_total` | `direction`, `type`, `cause` (empty: none in it) |
//! | `upf_pfcp_discarded_total` | `reason` |
//! | `upf_context_outcomes_total` | `outcome` (`in-effect`, `kept`, `refused`, `delayed`): of facts about users |
//! | `upf_context_effect_seconds` | `plane`; histogram: from a context's event until the plane follows |
//! | `upf_api_requests_total` | `method`, `route` (as in `/openapi.json`), `status`; empty: no such method, no such path |
//! | `upf_api_refused_total` | `by` (`authentication`, `scope`, `client-rate`, `address-rate`) |
//! | `upf_qod_sessions` | `status` (`REQUESTED`, `AVAILABLE`, `UNAVAILABLE`: ended, but still to be asked for) |
//! | `upf_qod_notifications_total`, `upf_qod_notifications_waiting` | `outcome` (`delivered`, `failed`) of the former |
//! | `upf_plane_connected` | `plane` |
//! | `upf_port_packets_total`, `upf_port_bytes_total` | `plane`, `port`, `direction` |
//! | `upf_port_missed_total`, `upf_port_tx_dropped_total`, `upf_port_up` | `plane`, `port` |
//! | `upf_queue_packets_total`, `upf_queue_bytes_total` | `plane`, `port`, `queue` |
//! | `upf_queue_dropped_packets_total`, `upf_queue_dropped_bytes_total` | `plane`, `port`, `queue` |
//! | `upf_queue_ecn_marked_total`, `upf_queue_longest_backlog_bytes` | `plane`, `port`, `queue` |
//! | `upf_drop_packets_total`, `upf_drop_bytes_total` | `plane`, `reason` |
//! | `upf_punt_packets_total`, `upf_punt_bytes_total` | `plane`, `reason` |
//! | `upf_events_total` | `plane`, `event` |
//! | `upf_buffered_packets`, `upf_buffered_bytes`, `upf_plane_sessions`, `upf_mempool_free` | `plane` |
//! | `upf_placement_sessions` | `place` (`direct`, `by_flow`, `host_in_part`, `host`), `reason` (empty: none) |
//! | `upf_placement_entries` | `table` |
//! | `upf_placement_promotions_total`, `upf_placement_evictions_total`, `upf_placement_refusals_total` | `reason` of the latter two |
//! | `upf_placement_updates_total`, `upf_placement_failed_updates_total`, `upf_placement_late_total` | |
//! | `upf_placement_synchronisations_total`, `upf_placement_differences_total` | |
//! | `upf_placement_write_seconds` | histogram: time of each Write |
//! | `upf_punt_limited_total` | `reason` |
//!
//! The controller's own numbers are counted as things happen; the data planes' are asked for at each scrape, so
//! that nobody counts for Prometheus on the packets' way.

use crate::api;
use crate::context_push::Outcome;
use crate::pfcp::wire::Cause;
use crate::planes::p4::Figures;
use crate::planes::p4::figures::{FlowReason, LATENCY_BOUNDS_S};
use crate::planes::p4::target::Left;
use crate::planes::{PlaneState, Planes};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use rs_pfcp::message::MsgType;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use upf_model::batch::{HostCounters, QueueUsage};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    direction: &'static str,
    r#type: String,
    cause: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaneLabels {
    plane: &'static str,
}

/// Upper bounds of [`Metrics::in_effect`], seconds.
const EFFECT_BOUNDS_S: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0,
];

/// All metrics of the controller.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sessions: Gauge,
    established: Counter,
    removed: Family<ReasonLabels, Counter>,
    messages: Family<MessageLabels, Counter>,
    discarded: Family<ReasonLabels, Counter>,
    outcomes: Family<OutcomeLabels, Counter>,
    effects: Family<PlaneLabels, Histogram, fn() -> Histogram>,
    planes: Arc<PlaneCounters>,
    /// Those of the API.
    pub api: api::figures::Figures,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("upf");
        let (sessions, established) = (Gauge::default(), Counter::default());
        let (removed, messages, discarded) = (Family::default(), Family::default(), Family::default());
        let outcomes = Family::default();
        let effects = Family::new_with_constructor((|| Histogram::new(EFFECT_BOUNDS_S)) as fn() -> Histogram);
        let planes = Arc::new(PlaneCounters::default());
        registry.register("sessions", "PFCP sessions", sessions.clone());
        registry.register("sessions_established", "Sessions established", established.clone());
        registry.register("sessions_removed", "Sessions removed", removed.clone());
        registry.register("pfcp_messages", "PFCP messages", messages.clone());
        registry.register(
            "pfcp_discarded",
            "PFCP datagrams that were not served",
            discarded.clone(),
        );
        registry.register("context_outcomes", "What became of facts about users", outcomes.clone());
        registry.register(
            "context_effect_seconds",
            "From a context's event until the plane follows",
            effects.clone(),
        );
        registry.register_collector(Box::new(planes.clone()));
        let api = api::figures::Figures::default();
        api.register(&mut registry);
        Self {
            registry,
            sessions,
            established,
            removed,
            messages,
            discarded,
            outcomes,
            effects,
            planes,
            api,
        }
    }
}

fn type_name(message_type: u8) -> String {
    match MsgType::from(message_type) {
        MsgType::Unknown => "Unknown".into(),
        known => format!("{known:?}"),
    }
}

impl Metrics {
    fn message(&self, direction: &'static str, message_type: u8, cause: Option<u8>) {
        let cause = cause.map(|c| c.to_string()).unwrap_or_default();
        self.messages
            .get_or_create(&MessageLabels {
                direction,
                r#type: type_name(message_type),
                cause,
            })
            .inc();
    }

    /// A message was received and understood.
    pub fn received(&self, message_type: u8, cause: Option<u8>) {
        self.message("received", message_type, cause);
    }

    /// A message was sent.
    pub fn sent(&self, datagram: &[u8], cause: Option<Cause>) {
        // The second octet of the header.
        self.message("sent", datagram.get(1).copied().unwrap_or(0), cause.map(Cause::value));
    }

    /// A datagram was not served.
    pub fn discarded(&self, reason: &'static str) {
        self.discarded.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A fact about a user was put.
    pub fn outcome(&self, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::InEffect { .. } => "in-effect",
            Outcome::Kept => "kept",
            Outcome::Refused { .. } => "refused",
            Outcome::Delayed { .. } => "delayed",
        };
        self.outcomes.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// What follows from a context is in effect in a plane, so long after it became known.
    pub fn in_effect(&self, plane: &'static str, after: Duration) {
        let histogram = self.effects.get_or_create(&PlaneLabels { plane });
        histogram.observe(after.as_secs_f64());
    }

    /// How many sessions there are.
    pub fn set_sessions(&self, sessions: usize) {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    /// There is a session more.
    pub fn session_established(&self) {
        self.established.inc();
    }

    /// There is a session less.
    pub fn session_removed(&self, reason: &'static str) {
        self.removed.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Asks the data planes and writes everything in the Prometheus text format.
    pub async fn scrape(&self, planes: &Planes) -> String {
        let mut snapshots = Vec::new();
        for plane in planes.iter() {
            let connected = plane.state() != PlaneState::Away;
            let counters = if connected { plane.counters().await.ok() } else { None };
            snapshots.push(PlaneSnapshot {
                name: plane.name(),
                connected,
                counters,
                figures: plane.figures(),
            });
        }
        *self.planes.0.lock().unwrap_or_else(PoisonError::into_inner) = snapshots;
        let mut page = String::new();
        if text::encode(&mut page, &self.registry).is_err() {
            page.clear();
        }
        page
    }
}

#[derive(Debug)]
struct PlaneSnapshot {
    name: &'static str,
    connected: bool,
    counters: Option<HostCounters>,
    figures: Option<Figures>,
}

/// What the data planes said at the latest scrape.
#[derive(Debug, Default)]
struct PlaneCounters(Mutex<Vec<PlaneSnapshot>>);

/// Values with their labels.
pub(crate) type Series = Vec<(Vec<(&'static str, String)>, u64)>;

impl Collector for PlaneCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = |read: &dyn Fn(&'static str, &HostCounters, &mut Series)| {
            let mut series = Series::new();
            for snapshot in snapshots.iter() {
                if let Some(counters) = &snapshot.counters {
                    read(snapshot.name, counters, &mut series);
                }
            }
            series
        };
        let labels =
            |plane: &str, key: &'static str, value: &str| vec![("plane", plane.to_owned()), (key, value.to_owned())];
        let port = |plane: &str, port: &str, direction: &str| {
            vec![
                ("plane", plane.to_owned()),
                ("port", port.to_owned()),
                ("direction", direction.to_owned()),
            ]
        };
        let of_plane = |plane: &str| vec![("plane", plane.to_owned())];

        let connected = snapshots
            .iter()
            .map(|s| (of_plane(s.name), u64::from(s.connected)))
            .collect();
        gauges(
            &mut encoder,
            "plane_connected",
            "Whether the data plane is there",
            connected,
        )?;

        let packets = each(&|plane, c, series| {
            for p in &c.ports {
                series.push((port(plane, &p.name, "rx"), p.rx.packets));
                series.push((port(plane, &p.name, "tx"), p.tx.packets));
            }
        });
        counters(&mut encoder, "port_packets", "Packets of a port", packets)?;
        let bytes = each(&|plane, c, series| {
            for p in &c.ports {
                series.push((port(plane, &p.name, "rx"), p.rx.bytes));
                series.push((port(plane, &p.name, "tx"), p.tx.bytes));
            }
        });
        counters(&mut encoder, "port_bytes", "Bytes of a port", bytes)?;
        let missed = each(&|plane, c, series| {
            series.extend(c.ports.iter().map(|p| (labels(plane, "port", &p.name), p.rx_missed)));
        });
        counters(
            &mut encoder,
            "port_missed",
            "Packets dropped by the device on receive",
            missed,
        )?;
        let tx_dropped = each(&|plane, c, series| {
            series.extend(c.ports.iter().map(|p| (labels(plane, "port", &p.name), p.tx_dropped)));
        });
        counters(
            &mut encoder,
            "port_tx_dropped",
            "Packets not accepted by the device on transmit",
            tx_dropped,
        )?;
        let up = each(&|plane, c, series| {
            series.extend(
                c.ports
                    .iter()
                    .map(|p| (labels(plane, "port", &p.name), u64::from(p.link_up))),
            );
        });
        gauges(&mut encoder, "port_up", "Whether the link is up", up)?;
        let of_queues = |read: fn(&QueueUsage) -> u64| {
            each(&|plane, c, series| {
                for p in &c.ports {
                    series.extend(p.queues.iter().enumerate().map(|(number, queue)| {
                        let mut labels = labels(plane, "port", &p.name);
                        labels.push(("queue", number.to_string()));
                        (labels, read(queue))
                    }));
                }
            })
        };
        type OfQueue = (&'static str, &'static str, fn(&QueueUsage) -> u64);
        let counted: [OfQueue; 5] = [
            ("queue_packets", "Packets sent by an egress queue", |q| q.sent.packets),
            ("queue_bytes", "Bytes sent by an egress queue", |q| q.sent.bytes),
            (
                "queue_dropped_packets",
                "Packets that found an egress queue full",
                |q| q.dropped.packets,
            ),
            ("queue_dropped_bytes", "Bytes that found an egress queue full", |q| {
                q.dropped.bytes
            }),
            ("queue_ecn_marked", "Packets marked Congestion Experienced", |q| {
                q.ecn_marked
            }),
        ];
        for (name, help, read) in counted {
            counters(&mut encoder, name, help, of_queues(read))?;
        }
        gauges(
            &mut encoder,
            "queue_longest_backlog_bytes",
            "The most that has waited in an egress queue at one lcore, bytes on the wire",
            of_queues(|q| q.longest_backlog_bytes),
        )?;
        let drops = each(&|plane, c, series| {
            series.extend(
                c.drops
                    .iter()
                    .map(|(reason, n)| (labels(plane, "reason", reason), n.packets)),
            );
        });
        counters(&mut encoder, "drop_packets", "Packets dropped", drops)?;
        let drops = each(&|plane, c, series| {
            series.extend(
                c.drops
                    .iter()
                    .map(|(reason, n)| (labels(plane, "reason", reason), n.bytes)),
            );
        });
        counters(&mut encoder, "drop_bytes", "Bytes dropped", drops)?;
        let punts = each(&|plane, c, series| {
            series.extend(
                c.punts
                    .iter()
                    .map(|(reason, n)| (labels(plane, "reason", reason), n.packets)),
            );
        });
        counters(
            &mut encoder,
            "punt_packets",
            "Packets that a P4 target left to the host",
            punts,
        )?;
        let punts = each(&|plane, c, series| {
            series.extend(
                c.punts
                    .iter()
                    .map(|(reason, n)| (labels(plane, "reason", reason), n.bytes)),
            );
        });
        counters(
            &mut encoder,
            "punt_bytes",
            "Bytes of frames that a P4 target left to the host",
            punts,
        )?;
        let events = each(&|plane, c, series| {
            series.extend(c.events.iter().map(|(event, n)| (labels(plane, "event", event), *n)));
        });
        counters(&mut encoder, "events", "Other things done", events)?;

        type OneGauge = (&'static str, &'static str, fn(&HostCounters) -> u64);
        let one_each: [OneGauge; 4] = [
            ("buffered_packets", "Packets in buffers", |c| c.buffered.packets),
            ("buffered_bytes", "Bytes in buffers", |c| c.buffered.bytes),
            ("plane_sessions", "Sessions in the data plane's table", |c| c.sessions),
            ("mempool_free", "Packet buffers not in use", |c| c.mempool_free),
        ];
        for (name, help, read) in one_each {
            let series = each(&|plane, c, series| series.push((of_plane(plane), read(c))));
            gauges(&mut encoder, name, help, series)?;
        }
        match snapshots.iter().find_map(|s| s.figures.as_ref()) {
            Some(figures) => placement(&mut encoder, figures),
            None => Ok(()),
        }
    }
}

/// What the fast path is told of.
fn placement(encoder: &mut DescriptorEncoder<'_>, figures: &Figures) -> std::fmt::Result {
    let place = |place: &str, reason: &str| vec![("place", place.to_owned()), ("reason", reason.to_owned())];
    let mut sessions = vec![
        (place("direct", ""), figures.direct),
        (place("by_flow", ""), figures.by_flow),
    ];
    for (&(reason, wholly), &count) in &figures.on_host {
        let where_to = if wholly { "host" } else { "host_in_part" };
        sessions.push((place(where_to, reason.name()), count));
    }
    gauges(encoder, "placement_sessions", "Sessions by where they live", sessions)?;
    let entries = figures
        .entries
        .iter()
        .map(|(table, n)| (vec![("table", (*table).to_owned())], *n));
    gauges(
        encoder,
        "placement_entries",
        "Entries of the P4 target's tables",
        entries.collect(),
    )?;
    let by_reason = |counts: &BTreeMap<FlowReason, u64>| -> Series {
        let counts = counts.iter();
        counts
            .map(|(reason, n)| (vec![("reason", reason.name().to_owned())], *n))
            .collect()
    };
    let one = |n: u64| vec![(Vec::new(), n)];
    let promoted = one(figures.promotions);
    counters(
        encoder,
        "placement_promotions",
        "Flows put into the P4 target",
        promoted,
    )?;
    let evicted = by_reason(&figures.evictions);
    counters(
        encoder,
        "placement_evictions",
        "Flows taken out of the P4 target",
        evicted,
    )?;
    let refused = by_reason(&figures.refusals);
    counters(encoder, "placement_refusals", "Flows that stay with the host", refused)?;
    let writes = [
        ("placement_updates", "Updates written to the P4 target", figures.updates),
        (
            "placement_failed_updates",
            "Updates that took no effect",
            figures.failed_updates,
        ),
        (
            "placement_late",
            "Requests answered before the P4 target had followed",
            figures.late,
        ),
        (
            "placement_synchronisations",
            "Synchronisations of the P4 target",
            figures.synchronisations,
        ),
        (
            "placement_differences",
            "Entries that synchronisations had to change",
            figures.differences,
        ),
    ];
    for (name, help, count) in writes {
        counters(encoder, name, help, one(count))?;
    }
    let punt = |read: fn(&Left) -> u64| -> Series {
        let left = figures.left.iter();
        left.map(|l| (vec![("reason", l.reason.name().to_owned())], read(l)))
            .collect()
    };
    counters(
        encoder,
        "punt_limited",
        "Packets over a rate of punting",
        punt(|l| l.limited.packets),
    )?;
    let mut family = encoder.encode_descriptor(
        "placement_write_seconds",
        "Time of each Write",
        None,
        MetricType::Histogram,
    )?;
    let bounds = LATENCY_BOUNDS_S.iter().copied().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(figures.write_latency.buckets).collect();
    let count = buckets.iter().map(|(_, n)| n).sum();
    family.encode_histogram::<prometheus_client::encoding::NoLabelSet>(
        figures.write_latency.sum_s,
        count,
        &buckets,
        None,
    )
}

pub(crate) fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: Series,
) -> std::fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

pub(crate) fn gauges(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, series: Series) -> std::fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
