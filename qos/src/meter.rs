//! Owns the meters: single rate, and the two-rate three-colour markers of RFC 2698 and RFC 4115.
//!
//! | profile | green | yellow | red |
//! | --- | --- | --- | --- |
//! | [`Profile::single_rate`] | within the rate | never | over it |
//! | [`Profile::rfc2698`] | within committed and peak | within peak only | over peak |
//! | [`Profile::rfc4115`] | within committed | within excess | over both |
//!
//! Both markers are colour-aware: give the colour a packet came with to [`admit_colored`]; a green one is treated as
//! in the colour-blind mode. Yellow passes, and may be dropped first by a later queue; red is dropped.
//!
//! # A dropped packet spends nothing
//! A packet of a flow with an MBR in a session with an AMBR passes two meters. If the second drops it, the first
//! must not have been charged, or the flow would lose rate to packets that were never sent. [`admit`] therefore
//! looks at every meter first, and spends only if all agree. With several lcores, tokens seen in the first phase
//! may be gone in the second: then what was spent is given back and the packet is red. What concurrency can do:
//!
//! * No bucket ever lets more pass than rate and burst allow: the spending is a compare-and-swap on its one word.
//! * Between spending and giving back, another lcore may see the tokens missing and drop a packet that would have
//!   conformed: at most one packet for each lcore inside [`admit`] at that moment.
//! * If the bucket became full in between, giving back overfills it by at most that one packet.
//!
//! # Cost
//! Uncontended, measured by `examples/meter_cost.rs` on a 2-core virtual machine: one meter 4 ns, an RFC 2698 meter
//! 6 ns, two meters 15 ns (they are looked at, then charged), a refusal 3 to 6 ns. Nothing allocates, nothing waits.

use crate::bucket::{Bucket, Cost};

/// The colour of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Color {
    /// Within the committed rate.
    Green,
    /// Above the committed rate, within what is tolerated.
    Yellow,
    /// Above that: to be dropped.
    Red,
}

/// What becomes of a packet that passes several meters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Passes; every meter said green.
    Green,
    /// Passes; no meter said red, at least one yellow (or the packet came as yellow).
    Yellow,
    /// Dropped; no meter was charged.
    Red {
        /// The first meter that refused, by its place in the list.
        meter: usize,
    },
}

impl Verdict {
    /// Whether the packet goes on.
    pub const fn passes(self) -> bool {
        !matches!(self, Self::Red { .. })
    }

    /// The colour alone.
    pub const fn color(self) -> Color {
        match self {
            Self::Green => Color::Green,
            Self::Yellow => Color::Yellow,
            Self::Red { .. } => Color::Red,
        }
    }

    const fn passing(color: Color) -> Self {
        match color {
            Color::Green => Self::Green,
            _ => Self::Yellow,
        }
    }
}

/// A rate and how much may come at once.
///
/// From 1 kbit/s to 1.6 Tbit/s the rate is kept to within 0.02 %, for packets of 20 bytes and more. A burst of more
/// than 39 hours at its rate is shortened to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bandwidth {
    /// Bit/s; 0: nothing passes.
    pub bits_per_second: u64,
    /// Bytes; a longer packet never passes.
    pub burst_bytes: u64,
}

/// What a meter measures against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    SingleRate(Bandwidth),
    Rfc2698 { committed: Bandwidth, peak: Bandwidth },
    Rfc4115 { committed: Bandwidth, excess: Bandwidth },
}

/// RFC 2698 1: "The PIR must be equal to or greater than the CIR".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("peak rate: expected at least the committed rate of {committed} bit/s, found {peak} bit/s")]
pub struct PeakBelowCommitted {
    /// CIR, bit/s.
    pub committed: u64,
    /// PIR, bit/s.
    pub peak: u64,
}

impl Profile {
    /// Green within the bandwidth, red above it.
    pub const fn single_rate(bandwidth: Bandwidth) -> Self {
        Self(Kind::SingleRate(bandwidth))
    }

    /// RFC 2698: CIR and CBS, PIR and PBS. A green packet counts against both, a yellow one against the peak.
    ///
    /// # Errors
    /// [`PeakBelowCommitted`].
    pub const fn rfc2698(committed: Bandwidth, peak: Bandwidth) -> Result<Self, PeakBelowCommitted> {
        if peak.bits_per_second < committed.bits_per_second {
            return Err(PeakBelowCommitted {
                committed: committed.bits_per_second,
                peak: peak.bits_per_second,
            });
        }
        Ok(Self(Kind::Rfc2698 { committed, peak }))
    }

    /// RFC 4115: CIR and CBS, EIR and EBS. A green packet counts against the committed rate only, a yellow one
    /// against the excess rate only: yellow traffic never takes from green.
    pub const fn rfc4115(committed: Bandwidth, excess: Bandwidth) -> Self {
        Self(Kind::Rfc4115 { committed, excess })
    }
}

/// A meter, shared by any number of lcores without locks.
#[derive(Debug)]
pub struct Meter(Buckets);

#[derive(Debug)]
enum Buckets {
    SingleRate(Bucket),
    Rfc2698 { committed: Bucket, peak: Bucket },
    Rfc4115 { committed: Bucket, excess: Bucket },
}

/// What a packet took from a meter.
enum Receipt<'m> {
    One(&'m Bucket, Cost),
    Both((&'m Bucket, Cost), (&'m Bucket, Cost)),
}

impl Receipt<'_> {
    fn refund(self) {
        match self {
            Self::One(bucket, cost) => bucket.refund(cost),
            Self::Both((a, cost_a), (b, cost_b)) => {
                a.refund(cost_a);
                b.refund(cost_b);
            }
        }
    }
}

impl Meter {
    /// Of a profile, with full buckets.
    pub fn new(profile: Profile, now_ns: u64) -> Self {
        let bucket = |b: Bandwidth| Bucket::new(b.bits_per_second, b.burst_bytes, now_ns);
        Self(match profile.0 {
            Kind::SingleRate(bandwidth) => Buckets::SingleRate(bucket(bandwidth)),
            Kind::Rfc2698 { committed, peak } => Buckets::Rfc2698 {
                committed: bucket(committed),
                peak: bucket(peak),
            },
            Kind::Rfc4115 { committed, excess } => Buckets::Rfc4115 {
                committed: bucket(committed),
                excess: bucket(excess),
            },
        })
    }

    /// Starts as empty as another meter is now: for a rule that replaces another, so that a change of its rate hands
    /// out no second burst. Buckets without a counterpart stay full. Packets that the other meter lets pass
    /// meanwhile are not counted.
    pub fn inherit(&self, other: &Meter, now_ns: u64) {
        use Buckets::{Rfc2698, Rfc4115, SingleRate};
        match (&self.0, &other.0) {
            (SingleRate(a), SingleRate(b) | Rfc2698 { peak: b, .. }) => a.inherit(b, now_ns),
            (Rfc2698 { peak: a, .. }, SingleRate(b)) => a.inherit(b, now_ns),
            (Rfc2698 { committed, peak }, Rfc2698 { committed: c, peak: p }) => {
                committed.inherit(c, now_ns);
                peak.inherit(p, now_ns);
            }
            (
                Rfc4115 { committed, excess },
                Rfc4115 {
                    committed: c,
                    excess: e,
                },
            ) => {
                committed.inherit(c, now_ns);
                excess.inherit(e, now_ns);
            }
            (Rfc4115 { .. }, _) | (_, Rfc4115 { .. }) => {}
        }
    }

    /// What [`Meter::mark`] would say; nothing is spent.
    #[inline]
    fn look(&self, now_ns: u64, bytes: u32, incoming: Color) -> Color {
        use Color::{Green, Red, Yellow};
        match (&self.0, incoming) {
            (_, Red) => Red,
            (Buckets::SingleRate(rate), color) => {
                if rate.conforms(now_ns, bytes) {
                    color
                } else {
                    Red
                }
            }
            (Buckets::Rfc2698 { peak, .. }, _) if !peak.conforms(now_ns, bytes) => Red,
            (Buckets::Rfc2698 { committed, .. }, Green) if committed.conforms(now_ns, bytes) => Green,
            (Buckets::Rfc2698 { .. }, _) => Yellow,
            (Buckets::Rfc4115 { committed, .. }, Green) if committed.conforms(now_ns, bytes) => Green,
            (Buckets::Rfc4115 { excess, .. }, _) => {
                if excess.conforms(now_ns, bytes) {
                    Yellow
                } else {
                    Red
                }
            }
        }
    }

    /// Colours and charges; no receipt: red.
    #[inline(always)]
    fn spend<const ALONE: bool>(&self, now_ns: u64, bytes: u32, incoming: Color) -> Option<(Color, Receipt<'_>)> {
        use Color::{Green, Red, Yellow};
        if incoming == Red {
            return None;
        }
        match &self.0 {
            Buckets::SingleRate(rate) => Some((incoming, Receipt::One(rate, rate.spend::<ALONE>(now_ns, bytes)?))),
            Buckets::Rfc2698 { committed, peak } => {
                let peak_cost = peak.spend::<ALONE>(now_ns, bytes)?;
                if incoming == Green
                    && let Some(committed_cost) = committed.spend::<ALONE>(now_ns, bytes)
                {
                    return Some((Green, Receipt::Both((committed, committed_cost), (peak, peak_cost))));
                }
                Some((Yellow, Receipt::One(peak, peak_cost)))
            }
            Buckets::Rfc4115 { committed, excess } => {
                if incoming == Green
                    && let Some(cost) = committed.spend::<ALONE>(now_ns, bytes)
                {
                    return Some((Green, Receipt::One(committed, cost)));
                }
                Some((Yellow, Receipt::One(excess, excess.spend::<ALONE>(now_ns, bytes)?)))
            }
        }
    }

    /// Colours one packet that came with a colour, and charges this meter unless it is red.
    #[inline]
    pub fn mark(&self, now_ns: u64, bytes: u32, incoming: Color) -> Color {
        self.spend::<false>(now_ns, bytes, incoming)
            .map_or(Color::Red, |(color, _)| color)
    }

    /// [`Self::mark`] of a packet that comes green, on the only thread that spends from this meter: without a locked
    /// instruction, which is half the cost.
    #[inline(always)]
    pub fn mark_alone(&self, now_ns: u64, bytes: u32) -> Color {
        self.spend::<true>(now_ns, bytes, Color::Green)
            .map_or(Color::Red, |(color, _)| color)
    }
}

/// Passes a packet through all meters, or through none: see the module. Colour-blind.
///
/// `now_ns` is a clock that does not run backwards, read once for a batch; `bytes` the length that the rates are
/// about, for PFCP the inner IP packet. A meter that is listed twice is charged twice.
#[inline]
pub fn admit(now_ns: u64, bytes: u32, meters: &[&Meter]) -> Verdict {
    admit_colored(now_ns, bytes, Color::Green, meters.iter().copied())
}

/// The same for a packet that came with a colour. Meters are asked in order, each with the colour that the one
/// before it gave.
#[inline]
pub fn admit_colored<'m, I>(now_ns: u64, bytes: u32, incoming: Color, meters: I) -> Verdict
where
    I: Iterator<Item = &'m Meter> + Clone,
{
    let mut rest = meters.clone();
    let Some(first) = rest.next() else {
        return if incoming == Color::Red {
            Verdict::Red { meter: 0 }
        } else {
            Verdict::passing(incoming)
        };
    };
    if rest.next().is_none() {
        return match first.mark(now_ns, bytes, incoming) {
            Color::Red => Verdict::Red { meter: 0 },
            color => Verdict::passing(color),
        };
    }
    let mut color = incoming;
    for (index, meter) in meters.clone().enumerate() {
        color = meter.look(now_ns, bytes, color);
        if color == Color::Red {
            return Verdict::Red { meter: index };
        }
    }
    spend_each(now_ns, bytes, incoming, 0, meters)
}

/// Charges the meters from the `index`th on. The receipts wait on the stack until the last has agreed.
fn spend_each<'m, I>(now_ns: u64, bytes: u32, incoming: Color, index: usize, mut meters: I) -> Verdict
where
    I: Iterator<Item = &'m Meter>,
{
    let Some(meter) = meters.next() else {
        return Verdict::passing(incoming);
    };
    let Some((color, receipt)) = meter.spend::<false>(now_ns, bytes, incoming) else {
        return Verdict::Red { meter: index };
    };
    let verdict = spend_each(now_ns, bytes, color, index + 1, meters);
    if !verdict.passes() {
        receipt.refund();
    }
    verdict
}
