//! A whole data plane between two capture files, and its controller's end of the channel.

use ipc::ControllerEnd;
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use upf_model::batch::{FromHost, HostCounters, ToHost};

/// How long what is expected may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file of this process.
pub fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("upf-host-{}-{name}", std::process::id()))
}

/// What a device will receive.
pub fn write_capture(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for frame in frames {
        let packet = PcapPacket::new(Duration::ZERO, frame.len() as u32, frame);
        writer.write_packet(&packet).unwrap();
    }
}

/// What a device has sent.
pub fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

/// The next message that is what `wanted` looks for.
pub fn receive<T>(controller: &mut ControllerEnd, wanted: impl Fn(FromHost) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "upf-host does not say what is expected");
        match controller.try_receive().unwrap().map(&wanted) {
            Some(Some(found)) => return found,
            Some(None) => {}
            None => {
                controller.wait(Duration::from_millis(100));
            }
        }
    }
}

/// What the host has counted.
pub fn counters(controller: &mut ControllerEnd) -> HostCounters {
    controller.send(&ToHost::QueryCounters { seq: 1 }).unwrap();
    receive(controller, |message| match message {
        FromHost::Counters { counters, .. } => Some(counters),
        _ => None,
    })
}

/// What the host has counted, as soon as it is as wished; or as it is after a while.
pub fn counters_when(controller: &mut ControllerEnd, wished: impl Fn(&HostCounters) -> bool) -> HostCounters {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counted = counters(controller);
        if wished(&counted) || Instant::now() > deadline {
            return counted;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Stops the host when its controller is through, or has panicked.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
