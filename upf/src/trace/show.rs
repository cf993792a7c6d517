//! A trace as text for people.

use super::Trace;
use super::host::{HostTrace, UserView, Verdict};
use super::p4::{Outcome, TargetTrace};
use crate::inspect::table;
use std::fmt::{Display, Formatter};
use std::net::SocketAddr;

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "a frame of {} bytes comes in at {}", self.frame.len() / 2, self.port)?;
        let mut finished = false;
        match &self.target {
            Some(target) => {
                write!(f, "\n{target}")?;
                finished = !matches!(target.outcome, Outcome::Punted { .. });
            }
            None => writeln!(f, "there is no P4 target: upf-host has the ports")?,
        }
        let heading = if finished {
            "the host, had it been punted"
        } else {
            "the host"
        };
        write!(f, "\n{heading}\n{}", self.host)
    }
}

impl Display for TargetTrace {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "the P4 target at {}", self.address)?;
        let rows = self.tables.iter().map(|step| {
            let action = match &step.action {
                Some(action) => format!("{action}({})", listed(&step.parameters)),
                None => "nothing".to_owned(),
            };
            let found = if step.hit { "hit" } else { "miss" };
            vec![step.table.clone(), listed(&step.key), found.into(), action]
        });
        f.write_str(&indented(&table(&["TABLE", "KEY", "", "ACTION"], rows)))?;
        match &self.outcome {
            Outcome::Forwarded {
                egress_port,
                port,
                frame,
            } => {
                let port = port
                    .as_ref()
                    .map_or_else(|| format!("port {egress_port}"), Clone::clone);
                writeln!(
                    f,
                    "  => leaves through {port}: {} bytes, the fast path",
                    frame.len() / 2
                )
            }
            Outcome::Punted { reason, session: None } => writeln!(f, "  => punted to the host: {reason}"),
            Outcome::Punted {
                reason,
                session: Some((session, epoch)),
            } => writeln!(
                f,
                "  => punted to the host: {reason} (session {session}, epoch {epoch})"
            ),
            Outcome::Dropped { reason: Some(reason) } => writeln!(f, "  => dropped: {reason}"),
            Outcome::Dropped { reason: None } => writeln!(f, "  => dropped"),
        }
    }
}

impl Display for HostTrace {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        if let Some(packet) = &self.packet {
            writeln!(f, "  {packet}")?;
        }
        if let Some(session) = &self.session {
            writeln!(
                f,
                "  session {} (slot {}, epoch {})",
                session.seid, session.id, session.epoch
            )?;
            let rows = session.candidates.iter().map(|c| {
                let verdict = if c.won { "won" } else { "" };
                let filters = if c.filters.is_empty() {
                    "-".to_owned()
                } else {
                    c.filters.join(" or ")
                };
                vec![
                    c.pdr.to_string(),
                    c.precedence.to_string(),
                    verdict.into(),
                    filters,
                    c.because.clone(),
                ]
            });
            let head = ["PDR", "PRECEDENCE", "", "FILTERS", "BECAUSE"];
            f.write_str(&indented(&table(&head, rows)))?;
        }
        writeln!(f, "  => {}", self.verdict)
    }
}

impl Display for UserView {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let (remote_port, ue_port) = self.ports.unzip();
        let end = |address, port: Option<u16>| match port {
            Some(port) => SocketAddr::new(address, port).to_string(),
            None => address.to_string(),
        };
        let (ue, remote) = (end(self.ue, ue_port), end(self.remote, remote_port));
        write!(
            f,
            "{}: user {ue}, far end {remote}, protocol {}",
            self.key, self.protocol
        )?;
        match self.qfi {
            Some(qfi) => write!(f, ", QFI {qfi}"),
            None => Ok(()),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { what } => write!(f, "for the UPF itself: {what}"),
            Self::Dropped { reason, by: None } => write!(f, "dropped: {reason}"),
            Self::Dropped { reason, by: Some(by) } => write!(f, "dropped: {reason}, by {by}"),
            Self::Buffered { pdr, far, notify } => {
                let told = if *notify {
                    ", and the SMF is told of the first"
                } else {
                    ""
                };
                write!(f, "buffered by FAR {far} of PDR {pdr}{told}")
            }
            Self::Forwarded {
                pdr,
                far,
                to,
                duplicated,
                qers,
                urrs,
            } => {
                write!(f, "PDR {pdr}, FAR {far}: into {to}")?;
                if *duplicated {
                    f.write_str(", and copies elsewhere")?;
                }
                for qer in qers {
                    write!(f, "; QER {}", qer.id)?;
                    for (name, value) in [
                        ("MBR", qer.mbr_kbps.map(|rate| format!("{rate} kbit/s"))),
                        ("GBR", qer.gbr_kbps.map(|rate| format!("{rate} kbit/s"))),
                        ("QFI", qer.qfi.map(|qfi| qfi.to_string())),
                    ] {
                        if let Some(value) = value {
                            write!(f, " {name} {value}")?;
                        }
                    }
                }
                let urrs: Vec<String> = urrs.iter().map(u32::to_string).collect();
                if !urrs.is_empty() {
                    write!(f, "; counted by URR {}", urrs.join(", "))?;
                }
                Ok(())
            }
        }
    }
}

fn listed(pairs: &[(String, String)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
