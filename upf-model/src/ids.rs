//! Identifiers: one newtype each, so that none is taken for another.

use rkyv::{Archive, Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
        )]
        #[rkyv(derive(Debug))]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(/// GTP-U tunnel endpoint identifier, TS 29.281 5.1.
    Teid(u32));
id!(/// PFCP session endpoint identifier, TS 29.244 7.2.2.4.2.
    Seid(u64));
id!(/// QoS flow identifier, 0..=63, TS 23.501 5.7.1.
    Qfi(u8));
id!(/// PDR precedence, Unsigned32, TS 29.244 8.2.11: the lower value wins.
    Precedence(u32));
id!(/// PDR identifier, unique in its session, TS 29.244 8.2.36.
    PdrId(u16));
id!(/// FAR identifier, unique in its session, TS 29.244 8.2.74.
    FarId(u32));
id!(/// QER identifier, unique in its session, TS 29.244 8.2.75.
    QerId(u32));
id!(/// URR identifier, unique in its session, TS 29.244 8.2.54.
    UrrId(u32));
id!(/// BAR identifier, unique in its session, TS 29.244 8.2.57.
    BarId(u8));
id!(/// A session's slot in every data plane: dense, chosen by `upf-ctl`, reused only after removal is confirmed.
    SessionId(u32));
id!(/// Version of a session's rules: every change of the session makes a new one.
    Epoch(u32));
id!(/// Index of a configured network instance (TS 29.244 8.2.4); names live in the configuration.
    NetworkInstanceId(u16));
id!(/// Index of a configured local GTP-U endpoint address.
    EndpointId(u16));
