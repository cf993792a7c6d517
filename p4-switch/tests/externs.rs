//! Externs, and what makes packets multiply, return, wait or go.

mod program;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use p4_switch::Output;
use p4_switch::control::{
    CloneSession, ControlError, CounterCell, CounterData, DigestConfig, DigestId, Entity, Event, MeterCell,
    MeterConfig, MulticastGroup, Query, RegisterCell, Replica, Update,
};
use program::{Loaded, be, load};

/// A packet that asks for `op`.
fn packet(op: u8, index: u8, value: u16) -> Vec<u8> {
    let mut bytes = vec![op, index];
    bytes.extend(value.to_be_bytes());
    bytes.extend([0; 8]);
    bytes
}

fn result(outputs: &[Output]) -> Vec<(u32, u32)> {
    outputs
        .iter()
        .map(|o| (o.port, u32::from_be_bytes(o.bytes[4..8].try_into().unwrap())))
        .collect()
}

fn run(loaded: &Loaded, op: u8, index: u8, value: u16) -> Vec<(u32, u32)> {
    result(&loaded.inject(3, &packet(op, index, value)))
}

fn replica(port: u32, instance: u16) -> Replica {
    Replica { port, instance }
}

#[test]
fn counters_count_packets_and_bytes_of_their_cell_only() {
    let loaded = load("externs");
    run(&loaded, 0, 2, 0);
    run(&loaded, 0, 2, 0);
    run(&loaded, 0, 200, 0);
    let counter = loaded.info.counter("TestIngress.counters").unwrap();
    let cells = loaded.read(&Query::Counters {
        counter: Some(counter),
        index: None,
    });
    assert_eq!(cells.len(), 8);
    let cell = |index, packets, bytes| {
        Entity::Counter(CounterCell {
            counter,
            index: Some(index),
            data: CounterData { packets, bytes },
        })
    };
    assert_eq!(cells[1..4], [cell(1, 0, 0), cell(2, 2, 24), cell(3, 0, 0)]);
    loaded.modify(cell(2, 7, 9));
    run(&loaded, 0, 2, 0);
    assert_eq!(
        loaded.read(&Query::Counters {
            counter: None,
            index: Some(2)
        }),
        [cell(2, 8, 21)]
    );
    let beyond = loaded.write(Update::Modify(cell(8, 0, 0)));
    assert!(matches!(
        beyond,
        Err(ControlError::OutOfRange { size: 8, index: 8, .. })
    ));
}

#[test]
fn meters_mark_packets_green_yellow_and_red() {
    let loaded = load("externs");
    let meter = loaded.info.meter("TestIngress.meters").unwrap();
    assert_eq!(run(&loaded, 1, 1, 0), [(1, 0)]);
    let config = Some(MeterConfig {
        cir: 12,
        cburst: 12,
        pir: 24,
        pburst: 24,
    });
    loaded.modify(Entity::Meter(MeterCell {
        meter,
        index: Some(1),
        config,
    }));
    let colors = |n: usize| (0..n).map(|_| run(&loaded, 1, 1, 0)[0].1).collect::<Vec<_>>();
    assert_eq!(colors(3), [0, 1, 2]);
    loaded.switch.advance(Duration::from_millis(500));
    assert_eq!(colors(2), [1, 2]);
    assert_eq!(
        loaded
            .read(&Query::Meters {
                meter: Some(meter),
                index: Some(1)
            })
            .len(),
        1
    );
    let config = Some(MeterConfig {
        cir: 2,
        cburst: 1,
        pir: 1,
        pburst: 1,
    });
    let refused = loaded.write(Update::Modify(Entity::Meter(MeterCell {
        meter,
        index: Some(1),
        config,
    })));
    assert!(matches!(refused, Err(ControlError::InvalidArgument(_))));
    loaded.modify(Entity::Meter(MeterCell {
        meter,
        index: None,
        config: None,
    }));
    assert_eq!(colors(3), [0, 0, 0]);
}

#[test]
fn registers_keep_what_packets_write_and_ignore_cells_that_are_not_there() {
    let loaded = load("externs");
    assert_eq!(
        [run(&loaded, 2, 1, 5), run(&loaded, 2, 1, 6), run(&loaded, 2, 1, 0)].concat(),
        [(1, 0), (1, 5), (1, 11)]
    );
    assert_eq!(run(&loaded, 2, 100, 5), [(4, 0)]);
    let register = loaded.info.register("TestIngress.registers").unwrap();
    let cell = RegisterCell {
        register,
        index: Some(3),
        value: be(0xffff_ffff),
    };
    loaded.modify(Entity::Register(cell.clone()));
    assert_eq!(run(&loaded, 2, 3, 1), [(3, 0xffff_ffff)]);
    assert_eq!(run(&loaded, 2, 3, 0), [(3, 0)]);
    let too_wide = RegisterCell {
        value: be(1 << 32),
        ..cell
    };
    assert!(loaded.write(Update::Modify(Entity::Register(too_wide))).is_err());
}

#[test]
fn registers_wider_than_a_word_keep_their_high_bits() {
    let loaded = load("externs");
    assert_eq!(run(&loaded, 13, 0, 0xabcd), [(0, 0xabcd_0000)]);
    let register = loaded.info.register("TestIngress.wide_registers").unwrap();
    let cell = RegisterCell {
        register,
        index: Some(1),
        value: be(0xabcd << 56),
    };
    assert_eq!(
        loaded.read(&Query::Registers {
            register: Some(register),
            index: Some(1)
        }),
        [Entity::Register(cell)]
    );
}

#[test]
fn hashes_are_those_of_bmv2_and_random_numbers_are_within_their_bounds() {
    let loaded = load("externs");
    // crc32 of 01 02 03.
    assert_eq!(run(&loaded, 3, 1, 0x0203), [(1, 0x55bc_801d)]);
    let mut seen: Vec<u32> = (0..200).map(|_| run(&loaded, 4, 0, 0)[0].1).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [10, 11, 12]);
}

#[test]
fn digests_are_sent_in_lists_and_not_repeated_before_they_are_acknowledged() {
    let loaded = load("externs");
    let lists = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lists);
    loaded.switch.on_event(move |event| {
        if let Event::Digest(list) = event {
            sink.lock().unwrap().push((list.list_id, list.data));
        }
    });
    let told = || std::mem::take(&mut *lists.lock().unwrap());
    run(&loaded, 5, 1, 2);
    assert_eq!(told(), []);
    let config = DigestConfig {
        digest: DigestId(0),
        max_timeout: Duration::from_millis(100),
        max_list_size: 2,
        ack_timeout: Duration::from_secs(10),
    };
    loaded.insert(Entity::Digest(config));
    run(&loaded, 5, 1, 2);
    run(&loaded, 5, 1, 2);
    assert_eq!(told(), []);
    run(&loaded, 5, 1, 3);
    assert_eq!(told(), [(1, vec![vec![be(1), be(2)], vec![be(1), be(3)]])]);
    run(&loaded, 5, 1, 2);
    run(&loaded, 5, 1, 4);
    loaded.switch.advance(Duration::from_millis(100));
    assert_eq!(told(), [(2, vec![vec![be(1), be(4)]])]);
    loaded.switch.acknowledge_digest(DigestId(0), 1);
    run(&loaded, 5, 1, 2);
    loaded.switch.advance(Duration::from_millis(100));
    assert_eq!(told(), [(3, vec![vec![be(1), be(2)]])]);
}

fn session(loaded: &Loaded, replicas: Vec<Replica>, packet_length_bytes: u32) {
    let session = CloneSession {
        session: 5,
        replicas,
        class_of_service: 0,
        packet_length_bytes,
    };
    loaded.insert(Entity::CloneSession(session));
}

#[test]
fn an_ingress_clone_is_the_packet_as_it_came_with_the_fields_it_keeps() {
    let loaded = load("externs");
    assert_eq!(run(&loaded, 6, 1, 77), [(1, 0)]);
    session(&loaded, vec![replica(4, 1), replica(5, 2)], 0);
    let outputs = loaded.inject(3, &packet(6, 1, 77));
    assert_eq!(result(&outputs), [(4, 77), (5, 77), (1, 0)]);
    assert_eq!(outputs[0].bytes[2..4], 77u16.to_be_bytes());
    assert_eq!(outputs[2].bytes[2..4], [0, 0]);
}

#[test]
fn an_egress_clone_goes_through_egress_again() {
    let loaded = load("externs");
    session(&loaded, vec![replica(4, 0)], 6);
    let outputs = loaded.inject(3, &packet(16, 1, 0));
    assert_eq!(
        outputs.iter().map(|o| (o.port, o.bytes.len())).collect::<Vec<_>>(),
        [(1, 12), (4, 6)]
    );
    assert_eq!(outputs[1].bytes[4..6], [0, 0]);
}

#[test]
fn resubmitted_and_recirculated_packets_keep_the_fields_of_their_list() {
    let loaded = load("externs");
    assert_eq!(run(&loaded, 7, 1, 0), [(1, 3)]);
    assert_eq!(run(&loaded, 8, 1, 0), [(1, 2)]);
}

#[test]
fn multicast_makes_a_copy_for_each_replica() {
    let loaded = load("externs");
    assert_eq!(run(&loaded, 9, 1, 3), []);
    let replicas = vec![replica(1, 10), replica(2, 20), replica(1, 11)];
    let group = MulticastGroup { group: 3, replicas };
    loaded.insert(Entity::MulticastGroup(group.clone()));
    assert_eq!(run(&loaded, 9, 1, 3), [(1, 10), (2, 20), (1, 11)]);
    let twice = MulticastGroup {
        group: 4,
        replicas: vec![replica(1, 1), replica(1, 1)],
    };
    assert!(loaded.write(Update::Insert(Entity::MulticastGroup(twice))).is_err());
    assert_eq!(loaded.write(Update::Delete(Entity::MulticastGroup(group))), Ok(()));
    assert_eq!(run(&loaded, 9, 1, 3), []);
}

#[test]
fn truncate_cuts_exit_leaves_and_a_failed_assertion_drops() {
    let loaded = load("externs");
    assert_eq!(loaded.inject(3, &packet(10, 1, 0))[0].bytes.len(), 10);
    assert_eq!(run(&loaded, 14, 1, 0), [(2, 0)]);
    assert_eq!(run(&loaded, 14, 1, 1), []);
    loaded.switch.keep_log(true);
    assert_eq!(run(&loaded, 11, 1, 5), [(1, 0)]);
    assert_eq!(loaded.switch.take_log(), ["index 1 value 5"]);
    assert_eq!(run(&loaded, 11, 1, 0xdead), []);
    assert_eq!(loaded.switch.statistics().assertion_failed, 1);
}

#[test]
fn a_queue_with_a_rate_lets_packets_out_in_time_and_high_priorities_first() {
    let loaded = load("externs");
    loaded.switch.set_queue_rate(Some(1), None, 10);
    loaded.switch.set_queue_depth(Some(1), Some(0), 2);
    let index = |outputs: Vec<Output>| outputs.iter().map(|o| o.bytes[1]).collect::<Vec<_>>();
    // The first goes at once; of queue 0 two may wait, the rest is dropped.
    let mut sent: Vec<Vec<u8>> = [0, 0, 0, 0, 5, 7]
        .map(|q| index(loaded.inject(3, &packet(12, q, 0))))
        .to_vec();
    assert_eq!(sent.remove(0), [0]);
    for _ in 0..10 {
        sent.push(index(loaded.switch.advance(Duration::from_millis(100))));
    }
    let order: Vec<u8> = sent.concat();
    assert_eq!(order.iter().filter(|q| **q == 0).count(), 2);
    assert_eq!(loaded.switch.statistics().queue_full, 1);
    assert!(
        loaded.inject(3, &packet(15, 2, 0)).len() == 1,
        "other ports are not held up"
    );
}

#[test]
fn a_queue_that_is_overloaded_delays_no_higher_one_and_of_those_that_wait_the_highest_goes_first() {
    let loaded = load("externs");
    let queues = |outputs: Vec<Output>| outputs.iter().map(|o| o.bytes[1]).collect::<Vec<_>>();
    let send = |queue| queues(loaded.inject(3, &packet(12, queue, 0)));
    // Queue 0 of port 1 has a rate and twice its load; the others have none.
    loaded.switch.set_queue_rate(Some(1), Some(0), 100);
    let mut left = Vec::new();
    for round in 0..200 {
        left.extend(send(0));
        if round % 10 == 0 {
            assert_eq!(send(7), [7], "it leaves at once, round {round}");
        }
        left.extend(queues(loaded.switch.advance(Duration::from_millis(5))));
    }
    let ordinary = left.iter().filter(|queue| **queue == 0).count();
    assert!(
        (100..=102).contains(&ordinary),
        "1 s at 100 packets a second: {ordinary}"
    );

    // All have a rate and packets: whenever several may go, the highest does.
    let loaded = load("externs");
    loaded.switch.set_queue_rate(Some(1), None, 10);
    let sent: Vec<Vec<u8>> = [0, 3, 7, 0, 3, 7]
        .map(|queue| queues(loaded.inject(3, &packet(12, queue, 0))))
        .to_vec();
    assert_eq!(sent.concat(), [0, 3, 7], "each queue's first has no one to wait for");
    assert_eq!(queues(loaded.switch.advance(Duration::from_millis(100))), [7, 3, 0]);
}

#[test]
fn packets_to_and_from_the_controller_go_through_the_cpu_port() {
    let loaded = load("externs");
    let packets = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&packets);
    loaded.switch.on_event(move |event| {
        if let Event::PacketIn(bytes) = event {
            sink.lock().unwrap().push(bytes);
        }
    });
    assert_eq!(run(&loaded, 15, 7, 0), []);
    assert_eq!(packets.lock().unwrap().len(), 1);
    loaded.switch.packet_out(&packet(15, 2, 0)).unwrap();
    assert_eq!(result(&loaded.switch.advance(Duration::ZERO)), [(2, 1)]);
}

#[test]
fn a_trace_names_what_a_packet_met() {
    let loaded = load("externs");
    let (outputs, trace) = loaded.switch.trace(3, &packet(15, 2, 0));
    assert_eq!(result(&outputs), [(2, 1)]);
    let text = format!("{trace:?}");
    assert!(
        text.contains("ParserState(\"start\")") && text.contains("Egress { port: 2 }"),
        "{text}"
    );
}
