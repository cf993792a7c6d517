//! The program itself, started as scripts start simple_switch_grpc: ports on capture files, P4Runtime beside them.

mod target;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use p4runtime::client::{Event, PipelineAction};
use p4runtime::{Client, Options, TableEntry, entity, v1};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use target::{PROGRAM, Packet, SOON, write};

/// A running p4-switch, ended with the test.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(directory: &Path, options: &[&str]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_p4-switch"))
            .args(options)
            .args(["--", "--grpc-server-addr", "127.0.0.1:0", "--cpu-port", "510"])
            .current_dir(directory)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let line = stdout
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with("Server listening on "));
        let address = line
            .expect("it says where it listens")
            .rsplit(' ')
            .next()
            .expect("a word")
            .to_owned();
        Running { child, address }
    }

    /// As a script ends it: SIGTERM.
    fn terminate(mut self) -> std::process::ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is ours");
        self.child.wait().expect("it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_capture(path: &Path, packets: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(std::fs::File::create(path).expect("writable")).expect("written");
    for packet in packets {
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, packet.len() as u32, packet))
            .expect("written");
    }
}

fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(std::fs::File::open(path).expect("it is there")).expect("a capture");
    std::iter::from_fn(|| {
        reader
            .next_packet()
            .map(|packet| packet.expect("whole").data.into_owned())
    })
    .collect()
}

fn directory(name: &str) -> std::path::PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("writable");
    directory
}

#[tokio::test]
async fn packets_of_capture_files_meet_the_entries_that_p4runtime_wrote() {
    let directory = directory("use-files");
    let packet = Packet::default().octets();
    let unknown = Packet {
        id: 9,
        ..Packet::default()
    }
    .octets();
    write_capture(&directory.join("a_in.pcap"), &[packet.clone(), unknown.clone()]);
    let options = [
        "--no-p4",
        "--device-id",
        "3",
        "-i",
        "1@a",
        "-i2@b",
        "--use-files",
        "2",
        "--pcap=.",
    ];
    let running = Running::start(&directory, &options);

    let info = target::info();
    let (client, mut events) = Client::connect(
        &running.address,
        Options {
            device_id: 3,
            ..Options::default()
        },
    )
    .expect("an address");
    client.primary(SOON).await.expect("primary");
    client
        .set_pipeline(&info, PROGRAM.to_vec(), None, PipelineAction::VerifyAndCommit)
        .await
        .expect("the program is accepted");
    let session = |teid: u16| {
        TableEntry::new(&info, "sessions")
            .match_exact("address", 0x0a00_0001u32)
            .match_exact("teid", teid)
    };
    let forward = session(1)
        .action("forward_session")
        .param("port", 2u8)
        .param("session", 7u8);
    let punt = session(9).action("to_controller");
    write(
        &client,
        [forward.insert().expect("valid"), punt.insert().expect("valid")],
    )
    .await;

    let event = tokio::time::timeout(SOON, events.next())
        .await
        .expect("the second packet is for the controller");
    let Some(Event::Packet(received)) = event else {
        panic!("{event:?}")
    };
    assert_eq!(received.payload, unknown);
    // One to port 2, and one back to the controller: when that is here, so is the other.
    for port in [2, target::CPU_PORT] {
        let values = [("egress_port", port.into()), ("_pad", 0u8.into())];
        let metadata = entity::packet_metadata(&info, "packet_out", &values).expect("valid");
        client
            .packet_out(v1::PacketOut {
                payload: unknown.clone(),
                metadata,
            })
            .await
            .expect("there is a stream");
    }
    tokio::time::timeout(SOON, events.next()).await.expect("it comes back");
    assert!(running.terminate().success());

    let mut forwarded = packet.clone();
    forwarded[9..12].copy_from_slice(&[0, 0, 7]);
    assert_eq!(read_capture(&directory.join("b_out.pcap")), [forwarded, unknown]);
}

#[test]
fn a_program_that_cannot_be_loaded_ends_it_with_a_reason() {
    let directory = directory("broken");
    std::fs::write(directory.join("broken.json"), "no JSON").expect("writable");
    let output = Command::new(env!("CARGO_BIN_EXE_p4-switch"))
        .args(["broken.json", "--", "--grpc-server-addr", "127.0.0.1:0"])
        .current_dir(&directory)
        .output()
        .expect("the program starts");
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("broken.json"),
        "{output:?}"
    );
}
