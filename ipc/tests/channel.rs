//! What the channel promises, with both ends in one process.

use ipc::{ChannelError, ControllerEnd, HostEnd, MAX_MESSAGE, ReceiveError, SendError};
use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use upf_model::batch::{Change, Event, FromHost, ToHost};
use upf_model::{FarId, Pdr, PdrId, Precedence, Qfi, Seid, Session, SessionId};

/// A channel name that no other test uses.
fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn pair() -> (ControllerEnd, HostEnd) {
    let name = name();
    (ControllerEnd::open(&name).unwrap(), HostEnd::open(&name).unwrap())
}

fn hello(controller: u64) -> ToHost {
    ToHost::Hello { controller }
}

fn query(seq: u64, sessions: usize) -> ToHost {
    ToHost::QueryUsage {
        seq,
        sessions: (0..sessions as u32).map(SessionId).collect(),
    }
}

fn event(session: u32) -> FromHost {
    let (session, pdr, qfi) = (SessionId(session), PdrId(1), Some(Qfi(9)));
    FromHost::Event(Event::DownlinkData {
        session,
        pdr,
        qfi,
        dscp: 0,
    })
}

#[test]
fn messages_arrive_once_and_in_order_both_ways() {
    let (mut controller, mut host) = pair();
    for i in 0..1_000 {
        controller.send(&query(i, i as usize)).unwrap();
        host.send(&event(i as u32)).unwrap();
    }
    for i in 0..1_000 {
        assert_eq!(host.try_receive().unwrap(), Some(query(i, i as usize)));
        assert_eq!(controller.try_receive().unwrap(), Some(event(i as u32)));
    }
    assert_eq!(
        (host.try_receive().unwrap(), controller.try_receive().unwrap()),
        (None, None)
    );
}

#[test]
fn a_message_can_be_read_where_it_lies() {
    let (mut controller, mut host) = pair();
    controller.send(&query(7, 3)).unwrap();
    let read = host.receive_archived(|message| match message {
        upf_model::batch::ArchivedToHost::QueryUsage { seq, sessions } => (
            seq.to_native(),
            sessions.iter().map(|s| s.0.to_native()).collect::<Vec<_>>(),
        ),
        _ => panic!("another message"),
    });
    assert_eq!(read.unwrap(), Some((7, vec![0, 1, 2])));
    assert_eq!(host.receive_archived(|_| ()).unwrap(), None);
}

#[test]
fn a_reader_that_panics_has_still_read_its_message() {
    let (mut controller, mut host) = pair();
    controller.send(&hello(1)).unwrap();
    controller.send(&hello(2)).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        host.receive_archived(|_| panic!("as a test"))
    }));
    assert!(caught.is_err());
    assert_eq!(host.try_receive().unwrap(), Some(hello(2)));
}

fn session(id: u32, pdrs: u16) -> Session {
    let pdr = |i: u16| Pdr {
        id: PdrId(i),
        precedence: Precedence(u32::from(i)),
        pdi: upf_model::Pdi {
            source_interface: upf_model::Interface::Access,
            network_instance: upf_model::NetworkInstanceId(0),
            local_fteid: None,
            ue_ip: None,
            framed_routes: vec!["10.0.0.0/8".parse().unwrap()],
            sdf: Vec::new(),
            qfis: vec![Qfi(9)],
        },
        outer_header_removal: None,
        far: FarId(u32::from(i)),
        qers: Vec::new(),
        urrs: Vec::new(),
    };
    Session {
        id: SessionId(id),
        seid: Seid(u64::from(id)),
        pdrs: (0..pdrs).map(pdr).collect(),
        ..Session::default()
    }
}

fn put(session: Session) -> Change {
    Change::Put {
        session,
        end_markers: Vec::new(),
        discard_buffered: Vec::new(),
    }
}

#[test]
fn a_batch_of_several_megabytes_crosses_whole_and_the_ring_may_wrap_within_it() {
    let (mut controller, mut host) = pair();
    let changes: Vec<Change> = (0..256).map(|id| put(session(id, 100))).collect();
    let batch = ToHost::Apply { seq: 1, changes };
    let mut largest = 0;
    for _ in 0..8 {
        controller.send(&batch).unwrap();
        largest = largest.max(controller.outgoing_bytes());
        assert_eq!(host.try_receive().unwrap().as_ref(), Some(&batch));
    }
    assert!(largest > 2 << 20, "the batch had {largest} bytes only");
}

#[test]
fn a_message_larger_than_the_ring_is_refused_and_the_channel_goes_on() {
    let (mut controller, mut host) = pair();
    let large = query(1, MAX_MESSAGE / 4 + 1);
    assert_eq!(controller.send(&large), Err(SendError::TooLarge { limit: MAX_MESSAGE }));
    controller.send(&query(2, MAX_MESSAGE / 4 - 64)).unwrap();
    assert!(matches!(
        host.try_receive().unwrap(),
        Some(ToHost::QueryUsage { seq: 2, .. })
    ));
}

#[test]
fn a_full_channel_refuses_loses_nothing_and_says_when_there_is_room_again() {
    let (mut controller, mut host) = pair();
    controller.wait(Duration::ZERO);
    let mut sent = 0;
    let waiting = loop {
        match controller.send(&query(sent, 1_000)) {
            Ok(()) => sent += 1,
            Err(SendError::Full { waiting }) => break waiting,
            Err(e) => panic!("{e}"),
        }
    };
    assert!(sent > 1_000 && waiting > MAX_MESSAGE - 8_192);
    assert!(!controller.wait(Duration::from_millis(1)), "there is no room yet");
    let waiter = std::thread::spawn(move || {
        let room = controller.wait(Duration::from_secs(10));
        (controller, room)
    });
    let mut received = 0;
    while let Some(message) = host.try_receive().unwrap() {
        assert_eq!(message, query(received, 1_000));
        received += 1;
    }
    assert_eq!(received, sent);
    let (mut controller, room) = waiter.join().unwrap();
    assert!(room);
    controller.send(&query(sent, 1_000)).unwrap();
    assert_eq!(host.try_receive().unwrap(), Some(query(sent, 1_000)));
}

#[test]
fn without_a_peer_nothing_is_sent() {
    let name = name();
    let mut controller = ControllerEnd::open(&name).unwrap();
    assert!(!controller.peer_alive());
    assert_eq!(controller.send(&hello(1)), Err(SendError::NoPeer));
    let host = HostEnd::open(&name).unwrap();
    controller.send(&hello(2)).unwrap();
    drop(host);
    assert_eq!(controller.send(&hello(3)), Err(SendError::NoPeer));
    let _host = HostEnd::open(&name).unwrap();
    assert_eq!(
        controller.send(&hello(4)),
        Err(SendError::NoPeer),
        "a restart must be noticed first"
    );
    assert!(controller.wait(Duration::ZERO));
    controller.send(&hello(5)).unwrap();
}

#[test]
fn an_end_belongs_to_one_at_a_time() {
    let name = name();
    let host = HostEnd::open(&name).unwrap();
    assert!(matches!(
        HostEnd::open(&name),
        Err(ChannelError::InUse { end: "host", .. })
    ));
    drop(host);
    HostEnd::open(&name).unwrap();
}

#[test]
fn a_new_incarnation_starts_with_an_empty_channel() {
    let name = name();
    let mut controller = ControllerEnd::open(&name).unwrap();
    let mut host = HostEnd::open(&name).unwrap();
    let first = controller.peer_incarnation();
    controller.send(&hello(1)).unwrap();
    host.send(&event(1)).unwrap();
    drop(host);
    let mut host = HostEnd::open(&name).unwrap();
    assert_ne!(controller.peer_incarnation(), first);
    assert_eq!(host.try_receive().unwrap(), None, "meant for the first one");
    assert_eq!(controller.try_receive().unwrap(), None, "from the first one");
    controller.send(&hello(2)).unwrap();
    assert_eq!(host.try_receive().unwrap(), Some(hello(2)));
}

#[test]
fn an_answer_to_the_old_incarnation_does_not_reach_the_new_one() {
    let name = name();
    let mut host = HostEnd::open(&name).unwrap();
    let mut controller = ControllerEnd::open(&name).unwrap();
    controller.send(&hello(1)).unwrap();
    assert_eq!(host.try_receive().unwrap(), Some(hello(1)));
    drop(controller);
    let mut controller = ControllerEnd::open(&name).unwrap();
    let answer = FromHost::Hello {
        host: 1,
        max_sessions: 1,
    };
    assert_eq!(host.send(&answer), Err(SendError::NoPeer));
    assert_eq!(host.try_receive().unwrap(), None);
    host.send(&answer).unwrap();
    assert_eq!(controller.try_receive().unwrap(), Some(answer));
}

#[test]
fn what_was_sent_before_a_clean_end_still_arrives() {
    let (mut controller, mut host) = pair();
    host.send(&event(1)).unwrap();
    drop(host);
    assert_eq!(controller.try_receive().unwrap(), Some(event(1)));
}

#[test]
fn wait_reports_messages_peers_coming_and_going_and_the_waker() {
    let name = name();
    let mut controller = ControllerEnd::open(&name).unwrap();
    assert!(!controller.wait(Duration::from_millis(1)));
    let mut host = HostEnd::open(&name).unwrap();
    assert!(controller.wait(Duration::ZERO), "the host has come");
    assert!(!controller.wait(Duration::ZERO));
    host.send(&event(1)).unwrap();
    assert!(
        controller.wait(Duration::ZERO) && controller.wait(Duration::ZERO),
        "until it is read"
    );
    controller.try_receive().unwrap();
    assert!(!controller.wait(Duration::ZERO));
    let waker = controller.waker();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        waker.wake();
        waker
    });
    assert!(controller.wait(Duration::from_secs(10)));
    assert!(!controller.wait(Duration::ZERO));
    thread.join().unwrap().wake();
    assert!(controller.wait(Duration::ZERO), "a waker used before counts");
    drop(host);
    assert!(controller.wait(Duration::ZERO), "the host has gone");
    assert!(!controller.wait(Duration::ZERO));
}

#[test]
fn a_sleeping_end_wakes_for_a_message_within_milliseconds() {
    let (mut controller, mut host) = pair();
    host.wait(Duration::ZERO);
    let thread = std::thread::spawn(move || {
        let woken = host.wait(Duration::from_secs(10));
        (woken, Instant::now())
    });
    std::thread::sleep(Duration::from_millis(150));
    let sent = Instant::now();
    controller.send(&hello(1)).unwrap();
    let (woken, at) = thread.join().unwrap();
    assert!(woken && at - sent < Duration::from_millis(80), "{:?}", at - sent);
}

#[test]
fn an_idle_wait_takes_no_cpu_time_to_speak_of() {
    fn cpu() -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
    let (mut controller, _host) = pair();
    controller.wait(Duration::ZERO);
    let before = cpu();
    assert!(!controller.wait(Duration::from_millis(500)));
    let used = cpu() - before;
    assert!(used < Duration::from_millis(5), "{used:?} of 500 ms");
}

#[test]
fn the_last_to_leave_removes_the_file() {
    let (controller, host) = pair();
    let path = controller.path().to_owned();
    assert!(path.exists());
    drop(controller);
    assert!(path.exists(), "the host still uses it");
    drop(host);
    assert!(!path.exists());
}

#[test]
fn channels_of_different_names_are_apart() {
    let (mut a, mut b) = (pair(), pair());
    a.0.send(&hello(1)).unwrap();
    b.0.send(&hello(2)).unwrap();
    assert_eq!(
        (a.1.try_receive().unwrap(), b.1.try_receive().unwrap()),
        (Some(hello(1)), Some(hello(2)))
    );
}

#[test]
fn names_that_are_no_file_names_are_refused() {
    for bad in ["", "../x", "a/b", ".x", "a b", "ä", &"x".repeat(65)] {
        assert!(matches!(HostEnd::open(bad), Err(ChannelError::Name(_))), "{bad}");
    }
}

#[test]
fn a_file_that_is_no_channel_is_replaced() {
    for contents in [b"".to_vec(), b"something else".to_vec(), vec![0xa5; 70_000]] {
        let name = name();
        let path = PathBuf::from(format!("{}/upf-{name}.channel", ipc::DEFAULT_DIRECTORY));
        std::fs::write(&path, contents).unwrap();
        let mut controller = ControllerEnd::open(&name).unwrap();
        let mut host = HostEnd::open(&name).unwrap();
        controller.send(&hello(1)).unwrap();
        assert_eq!(host.try_receive().unwrap(), Some(hello(1)));
    }
}

#[test]
fn a_channel_of_another_release_is_refused_while_its_other_end_lives_and_replaced_afterwards() {
    let name = name();
    let host = HostEnd::open(&name).unwrap();
    overwrite(host.path(), 8, b"another!");
    assert!(matches!(
        ControllerEnd::open(&name),
        Err(ChannelError::Incompatible { .. })
    ));
    drop(host);
    ControllerEnd::open(&name).unwrap();
}

#[test]
fn a_directory_that_does_not_exist_is_an_error_that_names_it() {
    let error = HostEnd::open_in(Path::new("/nowhere"), "x").unwrap_err();
    assert!(error.to_string().contains("/nowhere/upf-x.channel"), "{error}");
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, at)
        .unwrap();
}

/// Where ring 0 starts in the file.
const RING: u64 = 64 << 10;

#[test]
fn a_damaged_archive_is_refused_and_the_next_message_is_good() {
    let (mut controller, mut host) = pair();
    controller.send(&query(1, 100)).unwrap();
    controller.send(&hello(2)).unwrap();
    // The last bytes of the first archive are its root: tag, sequence number, relative pointer, length.
    overwrite(controller.path(), RING + 16, &[0xff; 420]);
    let refused = host.receive_archived(|_| ());
    assert!(matches!(refused, Err(ReceiveError::Invalid { .. })), "{refused:?}");
    assert_eq!(host.try_receive().unwrap(), Some(hello(2)));
}

#[test]
fn lost_record_boundaries_are_reported_and_the_channel_recovers() {
    let (mut controller, mut host) = pair();
    controller.send(&hello(1)).unwrap();
    controller.send(&hello(2)).unwrap();
    overwrite(controller.path(), RING, &[0xff; 8]);
    assert!(matches!(host.try_receive(), Err(ReceiveError::Damaged { .. })));
    assert_eq!(host.try_receive().unwrap(), None);
    controller.send(&hello(3)).unwrap();
    assert_eq!(host.try_receive().unwrap(), Some(hello(3)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn garbage_anywhere_in_the_file_never_harms_the_reader(
        pieces in prop::collection::vec((prop_oneof![0..4_096u64, RING..RING + 2_000], prop::collection::vec(any::<u8>(), 1..40)), 1..6),
        in_place: bool,
    ) {
        let (mut controller, mut host) = pair();
        controller.send(&query(1, 20)).unwrap();
        controller.send(&ToHost::Apply { seq: 1, changes: vec![put(session(1, 3))] }).unwrap();
        host.send(&event(1)).unwrap();
        let path = controller.path().to_owned();
        for (at, bytes) in pieces {
            overwrite(&path, at, &bytes);
        }
        for _ in 0..8 {
            let _ = if in_place { host.receive_archived(|m| drop(format!("{:p}", m))) } else { host.try_receive().map(|m| m.map(drop)) };
            let _ = controller.try_receive();
            let _ = controller.send(&hello(1));
            let _ = host.send(&event(2));
            host.wait(Duration::ZERO);
            controller.wait(Duration::ZERO);
        }
        drop((controller, host));
        let _ = std::fs::remove_file(path);
    }
}

#[test]
fn both_directions_keep_up_with_each_other_across_threads() {
    const MESSAGES: u64 = 50_000;
    let (mut controller, mut host) = pair();
    let echo = std::thread::spawn(move || {
        let mut echoed = 0;
        while echoed < MESSAGES {
            host.wait(Duration::from_secs(1));
            while let Some(ToHost::Hello { controller }) = host.try_receive().unwrap() {
                let answer = FromHost::Hello {
                    host: controller,
                    max_sessions: 0,
                };
                while let Err(e) = host.send(&answer) {
                    assert!(matches!(e, SendError::Full { .. }), "{e}");
                    host.wait(Duration::from_secs(1));
                }
                echoed += 1;
            }
        }
        host
    });
    let (mut sent, mut received) = (0, 0);
    while received < MESSAGES {
        while sent < MESSAGES && sent < received + 5_000 && controller.send(&hello(sent)).is_ok() {
            sent += 1;
        }
        controller.wait(Duration::from_secs(1));
        while let Some(FromHost::Hello { host, .. }) = controller.try_receive().unwrap() {
            assert_eq!(host, received);
            received += 1;
        }
    }
    drop(echo.join().unwrap());
}
