//! What is on the wire, judged by programs that share no code with this project: scapy speaks PFCP to the real
//! upf-ctl, and tshark reads captures of N3 and N4.

#[macro_use]
mod scene;

use gnb_sim::NewTunnel;
use nix::sys::signal::Signal;
use scene::{Scene, dl_teid, eventually, installed, lab, options, ue_v4, ue_v6};
use smf_sim::session::FlowQos;
use smf_sim::{ModificationSpec, SessionSpec, UeIps};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use upf::lab::{DN, DN_V6, GNB, GNB2, Lab, Side, Target};

/// This program's labs.
const NAME: &str = "t-wire";

on_each_target! {
    tshark_reads_n3_and_n4_without_complaint_and_finds_what_must_be_there,
}

/// An interpreter that has scapy: the one that `make setup` prepares, else the system's; none, said plainly.
fn python_with_scapy() -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let prepared = workspace.join("target/venv/bin/python3").display().to_string();
    let imports = |python: &&String| {
        Command::new(python)
            .args(["-c", "import scapy"])
            .output()
            .is_ok_and(|o| o.status.success())
    };
    let found = [prepared, "python3".to_owned()].iter().find(imports).cloned();
    if found.is_none() {
        println!("SKIPPED: scapy cannot be imported; `make setup` installs it into target/venv");
    }
    found
}

#[test]
fn scapy_as_an_independent_smf_finds_nothing_wrong() {
    let Some(python) = python_with_scapy() else { return };
    let Some((lab, _alone)) = lab(&options(NAME, Target::None)) else {
        return;
    };
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../upf-ctl/tests/scapy/pfcp_client.py");
    let client = client.canonicalize().unwrap().display().to_string();
    let n4 = installed("tcpdump").then(|| Capture::start(&lab, Side::Smf, "n4", "udp port 8805"));
    let said = lab.run(
        Side::Smf,
        &[&python, &client, "--upf", "10.4.0.1:8805", "--local", "10.4.0.2"],
    );
    let said = said.unwrap_or_else(|error| panic!("{error}"));
    println!("{said}");
    assert!(said.trim_end().ends_with("0 failed"));
    assert_eq!(
        scene::ask(&lab, "/v1/status")["sessions"],
        0,
        "scapy's sessions are gone with its association"
    );
    if let Some(n4) = n4.filter(|_| installed("tshark")) {
        // scapy's own requests are malformed on purpose in places: ours must not be.
        assert_clean(&n4.stop(&lab), "ip.src == 10.4.0.1");
    }
}

/// tcpdump at work.
struct Capture {
    file: String,
    tcpdump: nix::unistd::Pid,
}

impl Capture {
    fn start(lab: &Lab, side: Side, interface: &str, filter: &str) -> Self {
        let file = lab.directory.join(format!("{interface}.pcap"));
        let name = file.display().to_string();
        let _ = std::fs::remove_file(&file);
        let mut command = vec![
            "tcpdump",
            "-i",
            interface,
            "-w",
            &name,
            "-U",
            "--immediate-mode",
            "-s",
            "0",
            "-Z",
            "root",
        ];
        command.extend(filter.split_whitespace());
        let tcpdump = lab.spawn(side, &command, &format!("{interface}.tcpdump.log")).unwrap();
        // The file's header is written once it listens.
        eventually("tcpdump listens", || file.metadata().is_ok_and(|m| m.len() >= 24));
        Self { file: name, tcpdump }
    }

    /// The finished file.
    fn stop(self, lab: &Lab) -> String {
        // What is in the kernel's ring is written out on the way.
        std::thread::sleep(std::time::Duration::from_millis(200));
        lab.signal(self.tcpdump, Signal::SIGINT);
        self.file
    }
}

/// tshark's values of these fields, of the packets that `filter` lets through; one packet a line.
fn fields(file: &str, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args([
        "-r",
        file,
        "-Y",
        filter,
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-E",
        "occurrence=a",
    ]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// All values of one field.
fn values(file: &str, filter: &str, field: &str) -> BTreeSet<String> {
    fields(file, filter, &[field])
        .iter()
        .flat_map(|line| line.split(','))
        .map(str::to_owned)
        .collect()
}

/// No packet that `of` lets through is malformed, and tshark's experts find no error in it.
fn assert_clean(file: &str, of: &str) {
    let said = ["frame.number", "_ws.col.Info", "_ws.expert.message"];
    let bad = fields(
        file,
        &format!("({of}) && (_ws.malformed || _ws.expert.severity == error)"),
        &said,
    );
    assert!(bad.is_empty(), "{file}:\n{}", bad.join("\n"));
    assert!(
        !fields(file, of, &["frame.number"]).is_empty(),
        "{file} has no packet of {of}"
    );
}

fn tshark_reads_n3_and_n4_without_complaint_and_finds_what_must_be_there(on: Target) {
    if !installed("tshark") || !installed("tcpdump") {
        return;
    }
    let Some((lab, alone)) = lab(&options(NAME, on)) else {
        return;
    };
    let n3 = Capture::start(&lab, Side::Gnb, "n3", "udp port 2152");
    let n4 = Capture::start(&lab, Side::Smf, "n4", "udp port 8805");
    let mut scene = Scene::inside(lab, alone);
    let teids = everything_once(&mut scene);
    let (n3, n4) = (n3.stop(&scene.lab), n4.stop(&scene.lab));

    assert_clean(&n4, "pfcp");
    assert_clean(&n3, "gtp");
    n4_has_every_message(&n4, teids[0]);
    n3_has_every_message(&n3, &teids);
}

/// A bit of everything that N3 and N4 carry; the uplink TEIDs of the two UEs.
fn everything_once(scene: &mut Scene) -> [u32; 2] {
    let flow = format!("permit out 17 from {DN} 40005 to assigned");
    let dual = UeIps {
        v4: Some(ue_v4(1)),
        v6: Some(ue_v6(1)),
    };
    let spec = SessionSpec::basic(dual, GNB.into(), dl_teid(1))
        .with_mbr(50_000, 50_000)
        .with_sdf(
            100,
            &flow,
            FlowQos {
                qfi: Some(5),
                ..FlowQos::default()
            },
        );
    let ue = scene.attach(1, &[ue_v4(1).into(), ue_v6(1).into()], spec);
    let chosen = SessionSpec::basic_with_chosen_ue_ip(true, true, GNB.into(), dl_teid(2));
    let second = scene.establish(chosen);
    scene.runtime.block_on(scene.smf.heartbeat()).unwrap();
    scene::assert_reaches(&scene.lab, Side::Ue(1), DN);
    scene::assert_reaches(&scene.lab, Side::Ue(1), DN_V6);
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 40005);
    scene::send_numbers(&dn, 0..3, std::time::Duration::ZERO);
    assert_eq!(scene::receive_numbers(&at_ue, 2).len(), 3);

    scene.gnb.send_echo_request(1).unwrap();
    eventually("an Echo Response", || scene.gnb.counters().echo_responses == 1);
    scene
        .gnb
        .send_datagram(&scene::uplink_gpdu(0xffff_fff1, ue_v4(1), b"lost"))
        .unwrap();
    eventually("an Error Indication", || scene.gnb.counters().error_indications == 1);

    scene.modify(&ue, &ModificationSpec::to_idle());
    scene::send_numbers(&dn, 0..1, std::time::Duration::ZERO);
    scene.next_report("Downlink Data Report");
    scene.modify(&ue, &ModificationSpec::to_active(GNB.into(), dl_teid(1)));
    let target = scene.lab.gnb(GNB2).unwrap();
    scene
        .gnb
        .move_ue(
            &ue.name,
            &target,
            NewTunnel {
                teid_dl: 0x2001,
                teid_ul: None,
                upf: None,
            },
        )
        .unwrap();
    scene.modify(&ue, &ModificationSpec::handover(GNB2.into(), 0x2001));
    eventually("an End Marker", || scene.tunnel(&ue).downlink.end_markers == 1);
    target.close_tunnel(0x2001);
    scene::send_numbers(&dn, 0..1, std::time::Duration::ZERO);
    scene.next_report("Error Indication Report");

    // Refused: no such session; and a session without a mandatory IE.
    scene
        .runtime
        .block_on(scene.smf.modify(0x1234, &ModificationSpec::query_all()))
        .unwrap_err();
    let broken = SessionSpec::basic(UeIps::v4(ue_v4(3)), GNB.into(), dl_teid(3)).without(smf_sim::IeType::Precedence);
    scene.runtime.block_on(scene.smf.establish(&broken)).unwrap_err();
    assert!(!scene.modify(&ue, &ModificationSpec::query_all()).usage.is_empty());
    scene.delete(&ue);
    scene.runtime.block_on(scene.smf.release()).unwrap();
    [ue.session.uplink_teid().unwrap(), second.uplink_teid().unwrap()]
}

fn n4_has_every_message(n4: &str, teid: u32) {
    let upf = values(n4, "ip.src == 10.4.0.1", "pfcp.msg_type");
    for (kind, name) in [
        ("2", "Heartbeat Response"),
        ("6", "Association Setup Response"),
        ("10", "Association Release Response"),
        ("51", "Session Establishment Response"),
        ("53", "Session Modification Response"),
        ("55", "Session Deletion Response"),
        ("56", "Session Report Request"),
    ] {
        assert!(upf.contains(kind), "no {name} in {upf:?}");
    }
    // Every response has exactly one Cause, except to heartbeats.
    let responses = fields(
        n4,
        "ip.src == 10.4.0.1 && pfcp.msg_type in {6, 10, 51, 53, 55}",
        &["pfcp.msg_type", "pfcp.cause"],
    );
    for response in &responses {
        let (kind, cause) = response.split_once('|').unwrap();
        assert!(
            matches!(cause, "1" | "65" | "66"),
            "message type {kind} has cause {cause:?}"
        );
    }
    let established = "pfcp.msg_type == 51 && pfcp.cause == 1";
    assert!(values(n4, established, "pfcp.f_teid.teid").contains(&format!("{teid:#010x}")));
    assert!(values(n4, established, "pfcp.f_teid.ipv4_addr").contains("10.3.0.1"));
    assert_eq!(fields(n4, established, &["pfcp.f_seid.ipv4"]), ["10.4.0.1", "10.4.0.1"]);
    let chosen = values(n4, established, "pfcp.ue_ip_addr_ipv4");
    assert!(
        chosen.iter().any(|a| a.starts_with("10.60.")),
        "a UE address from the pool: {chosen:?}"
    );
    assert_eq!(
        fields(n4, "pfcp.msg_type == 53 && pfcp.cause == 65", &["pfcp.seid"]),
        ["0x0000000000000000"]
    );
    let refused = fields(n4, "pfcp.msg_type == 51 && pfcp.cause == 66", &["pfcp.offending_ie"]);
    assert_eq!(refused, ["29"], "Precedence is what is missing");
    let used = "pfcp.msg_type == 55 && pfcp.cause == 1";
    for field in [
        "pfcp.urr_id",
        "pfcp.ur_seqn",
        "pfcp.volume_measurement.tovol",
        "pfcp.duration_measurement",
    ] {
        assert!(
            !values(n4, used, field).contains(""),
            "{field} is missing in the final usage report"
        );
    }
    let features = values(n4, "pfcp.msg_type == 6", "pfcp.up_function_features.ftup");
    assert!(
        features.iter().all(|f| matches!(f.as_str(), "1" | "True")),
        "FTUP: {features:?}"
    );
    assert_eq!(
        values(n4, "pfcp.msg_type == 56", "pfcp.report_type.dldr").len(),
        2,
        "one with DLDR, one without"
    );
}

fn n3_has_every_message(n3: &str, teids: &[u32; 2]) {
    let upf = values(n3, "ip.src == 10.3.0.1", "gtp.message");
    let expected = ["0x02", "0x1a", "0xfe", "0xff"];
    assert_eq!(
        upf,
        expected.map(str::to_owned).into(),
        "Echo Response, Error Indication, End Marker, G-PDU"
    );

    let up = "ip.src == 10.3.0.2 && gtp.message == 0xff && (icmp || icmpv6)";
    assert_eq!(values(n3, up, "gtp.teid"), [format!("{:#010x}", teids[0])].into());
    assert_eq!(
        values(n3, up, "gtp.ext_hdr.pdu_ses_con.pdu_type"),
        ["1".to_owned()].into()
    );
    assert_eq!(
        values(n3, up, "gtp.ext_hdr.pdu_ses_con.qos_flow_id"),
        ["9".to_owned()].into()
    );
    let down = "ip.src == 10.3.0.1 && gtp.message == 0xff && (icmp || icmpv6)";
    assert_eq!(values(n3, down, "gtp.teid"), ["0x00001001".to_owned()].into());
    assert_eq!(
        values(n3, down, "gtp.ext_hdr.pdu_ses_con.pdu_type"),
        ["0".to_owned()].into()
    );
    assert_eq!(
        values(n3, down, "gtp.ext_hdr.pdu_ses_con.qos_flow_id"),
        ["9".to_owned()].into()
    );
    let flow = values(
        n3,
        "ip.src == 10.3.0.1 && gtp.message == 0xff && udp.port == 40005",
        "gtp.ext_hdr.pdu_ses_con.qos_flow_id",
    );
    assert_eq!(
        flow,
        ["5".to_owned()].into(),
        "the flow of the SDF filter is marked with its own QFI"
    );

    assert_eq!(
        fields(n3, "gtp.message == 0xfe", &["gtp.teid", "ip.dst"]),
        ["0x00001001|10.3.0.2"]
    );
    let indication = fields(
        n3,
        "ip.src == 10.3.0.1 && gtp.message == 0x1a",
        &["gtp.teid_data", "gtp.gsn_ipv4"],
    );
    assert_eq!(indication, ["0xfffffff1|10.3.0.1"]);
    // Every checksum is right that is there: outside and inside.
    let bad = Command::new("tshark")
        .args([
            "-r",
            n3,
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "udp.check_checksum:TRUE",
            "-o",
            "tcp.check_checksum:TRUE",
        ])
        .args([
            "-Y",
            "ip.src == 10.3.0.1 && (ip.checksum.status == 0 || udp.checksum.status == 0 || icmp.checksum.status == 0)",
        ])
        .output()
        .unwrap();
    assert!(
        bad.status.success() && bad.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&bad.stdout)
    );
}
