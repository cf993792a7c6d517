//! A port that writes down what it receives and sends: `--pcap`, as `NAME_in.pcap` and `NAME_out.pcap`.

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::RawFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use p4_switch::ports::Port;
use pcap_file::pcap::{PcapPacket, PcapWriter};

/// A port with two capture files beside it. Writing them is best effort: packets go on if a disk is full.
pub struct Recorder {
    port: Box<dyn Port>,
    received: PcapWriter<BufWriter<File>>,
    sent: PcapWriter<BufWriter<File>>,
}

impl Recorder {
    /// Make the files, in a directory that exists.
    pub fn new(port: Box<dyn Port>, directory: &Path, name: &str) -> io::Result<Recorder> {
        let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
        let writer = |end: &str| {
            let file = File::create(directory.join(format!("{base}_{end}.pcap")))?;
            PcapWriter::new(BufWriter::new(file)).map_err(io::Error::other)
        };
        Ok(Recorder {
            port,
            received: writer("in")?,
            sent: writer("out")?,
        })
    }
}

fn record(writer: &mut PcapWriter<BufWriter<File>>, frame: &[u8]) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let _ = writer.write_packet(&PcapPacket::new(since, frame.len() as u32, frame));
}

impl Port for Recorder {
    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let received = &mut self.received;
        self.port.receive(&mut |frame| {
            record(received, frame);
            take(frame);
        })
    }

    fn send(&mut self, frames: &[&[u8]]) -> io::Result<usize> {
        let sent = self.port.send(frames)?;
        frames.iter().take(sent).for_each(|frame| record(&mut self.sent, frame));
        Ok(sent)
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.port.descriptor()
    }

    fn is_finished(&self) -> bool {
        self.port.is_finished()
    }
}
