//! upf-ctl's answers as tables for people.

use serde_json::Value;
use std::fmt::Write;

/// `upf status`.
pub fn status(v: &Value) -> String {
    let mut out = format!(
        "{} {}  node {}  PFCP {}  up {} s\nsessions {} of {}  F-TEIDs {}  UE addresses {}\n",
        text(&v["name"]),
        text(&v["version"]),
        text(&v["node_id"]),
        text(&v["pfcp"]),
        text(&v["uptime_s"]),
        text(&v["sessions"]),
        text(&v["max_sessions"]),
        text(&v["fteids"]),
        text(&v["ue_addresses"]),
    );
    for plane in list(&v["planes"]) {
        let _ = writeln!(out, "plane {}: {}", text(&plane["name"]), text(&plane["state"]));
    }
    for a in list(&v["associations"]) {
        let state = if a["up"] == true { "up" } else { "down" };
        let _ = writeln!(
            out,
            "association with {} at {}: {state}",
            text(&a["node"]),
            text(&a["peer"])
        );
    }
    out
}

/// `upf sessions`.
pub fn sessions(v: &Value) -> String {
    let rows = list(v).iter().map(|s| {
        let addresses = list(&s["ue_addresses"]).iter().map(text).collect::<Vec<_>>().join(" ");
        vec![
            text(&s["seid"]),
            text(&s["cp_seid"]),
            text(&s["node"]),
            addresses,
            text(&s["pdrs"]),
            text(&s["place"]),
        ]
    });
    table(&["SEID", "CP SEID", "NODE", "UE ADDRESSES", "PDRS", "FAST PATH"], rows)
}

/// `upf sessions SEID`.
pub fn session(v: &Value) -> String {
    let rules = &v["rules"];
    let mut out = format!(
        "session {} of {}, CP SEID {}\n\n",
        text(&v["seid"]),
        text(&v["node"]),
        text(&v["cp_seid"])
    );
    let planes: Vec<&Value> = v["counters"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, plane)| plane)
        .collect();
    // What all planes counted together.
    let count = |kind: &str, id: &Value, field: &[&str]| {
        let of_plane = |plane: &&Value| list(&plane[kind]).iter().find(|pair| pair[0] == *id).cloned();
        let found: Vec<Value> = planes.iter().filter_map(of_plane).collect();
        let values = found.iter().map(|pair| field.iter().fold(&pair[1], |v, f| &v[*f]));
        let sum = |unit: &str| values.clone().filter_map(|v| v[unit].as_u64()).sum::<u64>();
        if found.is_empty() {
            return "-".into();
        }
        format!("{} / {}", sum("packets"), sum("bytes"))
    };
    let pdrs = list(&rules["pdrs"]).iter().map(|p| {
        vec![
            text(&p["id"]),
            text(&p["precedence"]),
            text(&p["pdi"]["source_interface"]),
            compact(&p["pdi"]["local_fteid"]["teid"]),
            list(&p["pdi"]["sdf"]).len().to_string(),
            text(&p["far"]),
            joined(&p["qers"]),
            joined(&p["urrs"]),
            count("pdrs", &p["id"], &[]),
        ]
    });
    out += &table(
        &[
            "PDR",
            "PRECEDENCE",
            "FROM",
            "TEID",
            "SDF",
            "FAR",
            "QERS",
            "URRS",
            "PACKETS / BYTES",
        ],
        pdrs,
    );
    let fars = list(&rules["fars"]).iter().map(|f| {
        let to = &f["forwarding"];
        let tunnel = &to["outer_header_creation"];
        let tunnel = if tunnel.is_null() {
            "-".into()
        } else {
            format!("{} teid {}", text(&tunnel["peer"]), text(&tunnel["teid"]))
        };
        vec![
            text(&f["id"]),
            compact(&f["action"]["disposition"]),
            text(&to["destination_interface"]),
            tunnel,
        ]
    });
    out += "\n";
    out += &table(&["FAR", "ACTION", "TO", "TUNNEL"], fars);
    let qers = list(&rules["qers"]).iter().map(|q| {
        vec![
            text(&q["id"]),
            text(&q["qfi"]),
            format!("{}/{}", text(&q["gate_uplink"]), text(&q["gate_downlink"])),
            rates(&q["mbr"]),
            rates(&q["gbr"]),
            count("qers", &q["id"], &["passed"]),
            count("qers", &q["id"], &["gated"]),
            count("qers", &q["id"], &["policed"]),
        ]
    });
    out += "\n";
    out += &table(
        &[
            "QER",
            "QFI",
            "GATES UL/DL",
            "MBR UL/DL",
            "GBR UL/DL",
            "PASSED",
            "GATED",
            "POLICED",
        ],
        qers,
    );
    let urrs = list(&rules["urrs"]).iter().map(|u| {
        vec![
            text(&u["id"]),
            count("urrs", &u["id"], &["uplink"]),
            count("urrs", &u["id"], &["downlink"]),
        ]
    });
    out += "\n";
    out += &table(&["URR", "UPLINK", "DOWNLINK"], urrs);
    out
}

/// `upf counters`.
pub fn counters(v: &Value) -> String {
    let mut out = String::new();
    for (plane, counters) in v.as_object().into_iter().flatten() {
        if counters.is_null() {
            let _ = writeln!(out, "plane {plane}: away");
            continue;
        }
        if !out.is_empty() {
            out += "\n";
        }
        let _ = writeln!(out, "== plane {plane}");
        let ports: Vec<_> = list(&counters["ports"]).iter().map(port).collect();
        if !ports.is_empty() {
            let of_port = [
                "PORT",
                "LINK",
                "RECEIVED (PACKETS / BYTES)",
                "SENT",
                "MISSED",
                "TX DROPPED",
            ];
            out += &table(&of_port, ports.into_iter());
        }
        let queues: Vec<_> = list(&counters["ports"]).iter().flat_map(queues).collect();
        if !queues.is_empty() {
            out += "\n";
            let of_queue = [
                "PORT",
                "QUEUE",
                "SENT (PACKETS / BYTES)",
                "DROPPED",
                "LONGEST BACKLOG (BYTES)",
                "ECN MARKED",
            ];
            out += &table(&of_queue, queues.into_iter());
        }
        for (title, of) in [("PUNTED BECAUSE", "punts"), ("DROPPED BECAUSE", "drops")] {
            let happened = list(&counters[of]).iter().filter(|r| r[1]["packets"] != 0);
            let by_reason: Vec<_> = happened
                .map(|r| vec![text(&r[0]), text(&r[1]["packets"]), text(&r[1]["bytes"])])
                .collect();
            if !by_reason.is_empty() {
                out += "\n";
                out += &table(&[title, "PACKETS", "BYTES"], by_reason.into_iter());
            }
        }
        let events = list(&counters["events"]).iter().filter(|e| e[1] != 0);
        let events: Vec<_> = events.map(|e| vec![text(&e[0]), text(&e[1])]).collect();
        if !events.is_empty() {
            out += "\n";
            out += &table(&["EVENT", "COUNT"], events.into_iter());
        }
        let _ = write!(out, "\nsessions {}", text(&counters["sessions"]));
        // What forwards without buffers has none.
        if counters["mempool_free"] != 0 {
            let (buffered, free) = (&counters["buffered"]["packets"], &counters["mempool_free"]);
            let _ = write!(
                out,
                ", buffered {} packets, packet buffers free {}",
                text(buffered),
                text(free)
            );
        }
        out.push('\n');
    }
    out
}

/// Packets and bytes.
fn pair(count: &Value) -> String {
    format!("{} / {}", text(&count["packets"]), text(&count["bytes"]))
}

/// The rows of a port's queues that had anything to do, the highest first.
fn queues(p: &Value) -> Vec<Vec<String>> {
    let busy = list(&p["queues"]).iter().enumerate().rev();
    let busy = busy.filter(|(_, q)| q["sent"]["packets"] != 0 || q["dropped"]["packets"] != 0);
    busy.map(|(number, q)| {
        vec![
            text(&p["name"]),
            number.to_string(),
            pair(&q["sent"]),
            pair(&q["dropped"]),
            text(&q["longest_backlog_bytes"]),
            text(&q["ecn_marked"]),
        ]
    })
    .collect()
}

/// The row of a port.
fn port(p: &Value) -> Vec<String> {
    let link = if p["link_up"] == true { "up" } else { "down" };
    vec![
        text(&p["name"]),
        link.into(),
        pair(&p["rx"]),
        pair(&p["tx"]),
        text(&p["rx_missed"]),
        text(&p["tx_dropped"]),
    ]
}

fn rates(v: &Value) -> String {
    if v.is_null() {
        "-".into()
    } else {
        format!("{}/{} kbit/s", text(&v["uplink_kbps"]), text(&v["downlink_kbps"]))
    }
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], Vec::as_slice)
}

fn joined(v: &Value) -> String {
    list(v).iter().map(text).collect::<Vec<_>>().join(",")
}

fn compact(v: &Value) -> String {
    if v.is_object() {
        v.to_string().replace('"', "")
    } else {
        text(v)
    }
}

fn text(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// Columns as wide as their widest cell, two spaces between them.
pub(crate) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|h| (*h).to_owned()).collect())
        .chain(rows)
        .collect();
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let line: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, w)| format!("{cell:<w$}  "))
            .collect();
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counters_show_ports_and_only_the_punts_and_drops_that_happened() {
        let shown = counters(&json!({ "host": {
            "ports": [{ "name": "n3", "link_up": true, "rx": { "packets": 5, "bytes": 500 }, "tx": { "packets": 1, "bytes": 60 },
                        "rx_missed": 0, "tx_dropped": 0 }],
            "punts": [["flow_miss", { "packets": 3, "bytes": 300 }], ["mtu", { "packets": 0, "bytes": 0 }]],
            "drops": [["policed", { "packets": 7, "bytes": 700 }], ["no_route", { "packets": 0, "bytes": 0 }]],
            "events": [], "buffered": { "packets": 0, "bytes": 0 }, "sessions": 1, "mempool_free": 9,
        }}));
        assert!(shown.contains("n3    up    5 / 500"), "{shown}");
        assert!(shown.contains("policed"), "{shown}");
        assert!(shown.contains("flow_miss"), "{shown}");
        assert!(!shown.contains("no_route") && !shown.contains("mtu"), "{shown}");
    }

    #[test]
    fn counters_show_the_queues_that_had_anything_to_do() {
        let queue = |sent, dropped| {
            json!({ "sent": { "packets": sent, "bytes": 100 * sent }, "dropped": { "packets": dropped, "bytes": 0 },
                    "longest_backlog_bytes": 4_614, "ecn_marked": 2 })
        };
        let shown = counters(&json!({ "host": {
            "ports": [{ "name": "n3", "queues": [queue(3, 1), queue(0, 0), queue(5, 0)] }, { "name": "n6", "queues": [] }],
        }}));
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        let high = ["n3", "2", "5", "/", "500", "0", "/", "0", "4614", "2"];
        let at = rows.iter().position(|row| *row == high).expect(&shown);
        assert_eq!(rows[at + 1][..6], ["n3", "0", "3", "/", "300", "1"], "{shown}");
        assert_eq!(rows[at + 2], [""; 0], "{shown}");
    }

    #[test]
    fn answers_that_lack_what_is_expected_do_not_panic() {
        for show in [status, sessions, session, counters] {
            show(&json!({}));
            show(&json!({ "host": null }));
            show(&json!([{}]));
        }
    }
}
