"""p4runtime-shell, a P4Runtime client that is not ours, programs p4-switch with tests/programs/entities.p4.

Run by tests/p4runtime_shell.rs with the server's address, the P4Info and the program. Every step reads back what it
wrote. Exit status 0 means that all steps did what they should.
"""
import sys

import grpc
import p4runtime_sh.shell as sh
from p4.v1 import p4runtime_pb2
from p4runtime_sh.p4runtime import P4RuntimeException, P4RuntimeWriteException

FAILED = []


def step(function):
    """Run one step of the test and say how it went; the others go on."""
    try:
        function()
        print("ok      ", function.__doc__)
    except Exception as error:  # whatever it is, it is to be shown
        FAILED.append(function.__doc__)
        print("FAILED  ", function.__doc__, "->", type(error).__name__, error)


def refused(code, function):
    """The call must fail with this canonical code."""
    try:
        function()
    except P4RuntimeWriteException as error:
        codes = [p4_error.canonical_code for _, p4_error in error.errors]
        assert codes == [code.value[0]], "expected %s, got %s" % (code, error)
    except P4RuntimeException as error:
        assert error.grpc_error.code() == code, "expected %s, got %s" % (code, error)
    else:
        raise AssertionError("expected %s, it succeeded" % code)


def session(teid, port=1, session_id=7):
    entry = sh.TableEntry("In.sessions")(action="In.forward_session")
    entry.match["address"] = "10.0.0.1"
    entry.match["teid"] = str(teid)
    entry.action["port"] = str(port)
    entry.action["session"] = str(session_id)
    return entry


def version():
    """the API version is told"""
    assert sh.APIVersion().startswith("1."), sh.APIVersion()


def exact_entries():
    """exact entries are inserted, read, modified and deleted"""
    for teid in (1, 2, 300):
        session(teid).insert()
    refused(grpc.StatusCode.ALREADY_EXISTS, session(1).insert)
    assert len(list(sh.TableEntry("In.sessions").read())) == 3
    session(2, port=5).modify()
    found = list(session(2).read())
    assert len(found) == 1 and found[0].action["port"].value == b"\x05", found
    session(2).delete()
    refused(grpc.StatusCode.NOT_FOUND, session(2).delete)
    assert len(list(sh.TableEntry("In.sessions").read())) == 2


def acl_entries():
    """ternary, range and optional fields keep their values and priorities"""
    entry = sh.TableEntry("In.acl")(action="In.flood")
    entry.match["source"] = "10.0.0.0 &&& 255.0.0.0"
    entry.match["length"] = "100..200"
    entry.match["protocol"] = "17"
    entry.action["group"] = "1"
    entry.priority = 10
    entry.insert()
    other = sh.TableEntry("In.acl")(action="In.drop")
    other.match["protocol"] = "6"
    other.priority = 20
    other.insert()
    found = {e.priority: e for e in sh.TableEntry("In.acl").read()}
    assert sorted(found) == [10, 20], found
    assert found[10].match["source"].ternary.mask == b"\xff\x00\x00\x00"
    assert found[10].match["length"].range.high == b"\xc8"
    assert found[20].match["protocol"].optional.value == b"\x06"
    entry.delete()
    other.delete()


def default_action():
    """the default action is modified and reset"""
    entry = sh.TableEntry("In.sessions")(is_default=True, action="In.drop")
    entry.modify()
    found = list(sh.TableEntry("In.sessions")(is_default=True).read())
    assert len(found) == 1 and found[0].action.action_name == "In.drop", found
    reset = sh.TableEntry("In.sessions")(is_default=True)
    reset.modify()
    found = list(sh.TableEntry("In.sessions")(is_default=True).read())
    assert found[0].action.action_name == "NoAction", found


def direct_resources():
    """direct counters and meters are written and read"""
    counter = sh.DirectCounterEntry("In.session_counter")
    counter.table_entry.match["address"] = "10.0.0.1"
    counter.table_entry.match["teid"] = "1"
    counter.packet_count = 100
    counter.byte_count = 6400
    counter.modify()
    found = list(counter.read())
    assert (found[0].packet_count, found[0].byte_count) == (100, 6400), found
    meter = sh.DirectMeterEntry("In.session_meter")
    meter.table_entry.match["address"] = "10.0.0.1"
    meter.table_entry.match["teid"] = "1"
    meter.cir, meter.cburst, meter.pir, meter.pburst = 1000, 2000, 3000, 4000
    meter.modify()
    found = list(meter.read())
    assert (found[0].cir, found[0].pburst) == (1000, 4000), found


def indirect_resources():
    """cells of counters and meters are written and read, one or all"""
    counter = sh.CounterEntry("In.port_counter")
    counter.index = 3
    counter.packet_count = 7
    counter.modify()
    assert next(iter(counter.read())).packet_count == 7
    everything = sh.CounterEntry("In.port_counter")
    everything.index = None
    assert len(list(everything.read())) == 16
    meter = sh.MeterEntry("In.port_meter")
    meter.index = 2
    meter.cir, meter.cburst, meter.pir, meter.pburst = 10, 20, 30, 40
    meter.modify()
    assert next(iter(meter.read())).pir == 30


def members_and_groups():
    """members, weighted groups and entries that refer to them"""
    for member_id in (1, 2):
        member = sh.ActionProfileMember("In.hops")(member_id=member_id, action="In.forward")
        member.action["port"] = str(member_id)
        member.insert()
    group = sh.ActionProfileGroup("In.hops")(group_id=1)
    group.add(1, 3)
    group.add(2, 1)
    group.insert()
    route = sh.TableEntry("In.routes")(group_id=1)
    route.match["destination"] = "10.1.0.0/16"
    route.insert()
    found = next(iter(sh.TableEntry("In.routes").read()))
    assert found.group_id == 1
    members = {m.member_id: m.weight for m in next(iter(group.read())).members}
    assert members == {1: 3, 2: 1}, members
    refused(grpc.StatusCode.FAILED_PRECONDITION, group.delete)
    route.delete()
    group.delete()
    for member_id in (1, 2):
        sh.ActionProfileMember("In.hops")(member_id=member_id).delete()


def one_shot():
    """a one-shot action selector is read as it was written"""
    entry = sh.TableEntry("In.routes")
    entry.match["destination"] = "10.2.0.0/16"
    for port, weight in ((1, 1), (2, 3)):
        action = sh.Action("In.forward")
        action["port"] = str(port)
        entry.oneshot.add(action, weight=weight)
    entry.insert()
    found = next(iter(sh.TableEntry("In.routes").read()))
    assert [a.weight for a in found.oneshot.actions] == [1, 3]
    entry.delete()


def replication():
    """multicast groups and clone sessions"""
    group = sh.MulticastGroupEntry(1)
    group.add(1, 1).add(2, 2)
    group.insert()
    found = next(iter(sh.MulticastGroupEntry(1).read()))
    assert [(r.egress_port, r.instance) for r in found.replicas] == [(1, 1), (2, 2)], found
    group.delete()
    session_ = sh.CloneSessionEntry(5)
    session_.add(3, 1)
    session_.packet_length_bytes = 64
    session_.insert()
    found = next(iter(sh.CloneSessionEntry(5).read()))
    assert (found.packet_length_bytes, found.replicas[0].egress_port) == (64, 3), found
    session_.delete()


def digest_configuration():
    """a digest is configured"""
    digest = sh.DigestEntry("learn_t")
    digest.max_list_size = 10
    digest.max_timeout_ns = 1000000
    digest.insert()
    assert next(iter(digest.read())).max_list_size == 10
    digest.delete()


def constants():
    """a constant table is read, and does not change"""
    entry = next(iter(sh.TableEntry("In.constant").read()))
    assert entry.match["type"].exact.value == b"\x88\xb5"
    refused(grpc.StatusCode.PERMISSION_DENIED, entry.delete)


def misuse():
    """wrong values are refused with the specification's codes"""
    update = p4runtime_pb2.Update()
    update.type = p4runtime_pb2.Update.INSERT
    update.entity.table_entry.CopyFrom(session(9).msg())
    update.entity.table_entry.match[1].exact.value = b"\x01\x00\x00"
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: sh.client.write_update(update))
    update.entity.table_entry.match[1].exact.value = b"\x00\x00\x09"
    sh.client.write_update(update)
    found = next(iter(session(9).read()))
    assert found.match["teid"].exact.value == b"\x09", "answers are canonical"
    session(9).delete()


def main():
    address, p4info, program = sys.argv[1:4]
    config = sh.FwdPipeConfig(p4info, program)
    sh.setup(device_id=1, grpc_addr=address, election_id=(0, 1), config=config, verbose=False)
    try:
        for test in (version, exact_entries, acl_entries, default_action, direct_resources, indirect_resources,
                     members_and_groups, one_shot, replication, digest_configuration, constants, misuse):
            step(test)
    finally:
        sh.teardown()
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
