#!/usr/bin/env python3
"""Writes scapy_generated.txt: GTP-U messages as scapy builds them, each with the values it was built from.

    python3 -m venv venv && venv/bin/pip install scapy && venv/bin/python scapy_generated.py > scapy_generated.txt

Only containers that need no padding are here: scapy writes padding behind the next extension header type, where
TS 29.281 5.2.1 has that type last.
"""
import random

from scapy.all import IP, UDP, IPv6, Raw, raw
from scapy.contrib.gtp import (
    GTPEchoRequest,
    GTPEchoResponse,
    GTPErrorIndication,
    GTP_U_Header,
    GTPPDUSessionContainer,
    IE_GSNAddress,
    IE_Recovery,
    IE_TEIDI,
)

rnd = random.Random(29281)


def emit(name, packet, **values):
    print(name, raw(packet).hex(), *(f"{key}={value}" for key, value in values.items()))


def user_packet():
    size = rnd.randrange(1, 40)
    inner = rnd.choice([IP(src="10.60.0.1", dst="198.51.100.1"), IPv6(src="2001:db8::1", dst="2001:db8::2")])
    return inner / UDP(sport=4000, dport=53) / Raw(bytes(rnd.randrange(256) for _ in range(size)))


print("# name octets values; written by scapy_generated.py")
for _ in range(12):
    teid, user = rnd.randrange(2**32), user_packet()
    emit("g-pdu", GTP_U_Header(teid=teid, gtp_type=255) / user, teid=teid, payload=len(raw(user)))
for _ in range(12):
    teid, user, seq = rnd.randrange(2**32), user_packet(), rnd.randrange(2**16)
    emit("g-pdu", GTP_U_Header(teid=teid, gtp_type=255, S=1, seq=seq) / user, teid=teid, seq=seq, payload=len(raw(user)))
for index in range(64):
    teid, user, qfi = rnd.randrange(2**32), user_packet(), index
    if index % 2:
        psc, values = GTPPDUSessionContainer(type=1, QFI=qfi), {"type": 1}
        if index % 4 == 1:
            stamps = [rnd.randrange(2**64) for _ in range(3)]
            psc.QMP = 1
            psc.dlSendTimeRpt, psc.dlRecvTime, psc.ulSendTime = stamps
            values.update(zip(("sent", "received", "uplink"), stamps))
        if index % 8 == 3:
            delays = [rnd.randrange(2**32) for _ in range(3)]
            psc.dlDelayInd = psc.ulDelayInd = psc.N3N9DelayInd = 1
            psc.dlDelayRslt, psc.ulDelayRslt, psc.N3N9DelayRslt = delays
            values.update(zip(("dldelay", "uldelay", "n3n9"), delays))
    else:
        rqi = rnd.randrange(2)
        psc, values = GTPPDUSessionContainer(type=0, QFI=qfi, RQI=rqi), {"type": 0, "rqi": rqi}
        if index % 4 == 2:
            ppi, number = rnd.randrange(8), rnd.randrange(2**24)
            psc.PPP, psc.PPI, psc.SNP, psc.dlQFISeqNum = 1, ppi, 1, number
            values.update(ppi=ppi, number=number)
        if index % 8 == 4:
            stamp = rnd.randrange(2**64)
            psc.QMP, psc.dlSendTime = 1, stamp
            values.update(sent=stamp)
    packet = GTP_U_Header(teid=teid, gtp_type=255) / psc / user
    emit("g-pdu", packet, teid=teid, qfi=qfi, payload=len(raw(user)), **values)
for _ in range(4):
    seq = rnd.randrange(2**16)
    emit("echo-request", GTP_U_Header(teid=0, S=1, seq=seq, gtp_type=1) / GTPEchoRequest(), teid=0, seq=seq)
    response = GTPEchoResponse(IE_list=[IE_Recovery(restart_counter=seq % 256)])
    emit("echo-response", GTP_U_Header(teid=0, S=1, seq=seq, gtp_type=2) / response, teid=0, seq=seq, recovery=seq % 256)
    teid = rnd.randrange(2**32)
    for address, element in (
        ("192.0.2.7", IE_GSNAddress(length=4, ipv4_address="192.0.2.7")),
        ("2001:db8::7", IE_GSNAddress(length=16, ipv6_address="2001:db8::7")),
    ):
        indication = GTPErrorIndication(IE_list=[IE_TEIDI(TEIDI=teid), element])
        emit(
            "error-indication",
            GTP_U_Header(teid=0, S=1, seq=0, gtp_type=26) / indication,
            teid=0, tunnel=teid, peer=address,
        )
    emit("end-marker", GTP_U_Header(teid=teid, gtp_type=254), teid=teid)
