"""Makes tests/vectors/audit-v2.json from docs/audit-format.md alone: exports, and whether they are sound.

    make_vectors.py > tests/vectors/audit-v2.json

Needs the package `cryptography`. Knows nothing of the program; verify.py and the program judge what it makes.
"""
import base64, copy, hashlib, json, struct

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CHAIN, ZERO = "03" * 16, "0" * 16
SIGNER, PERSON = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (5, 8))
NAMES = iter(f"{n:02x}a0b0c0d0e0f00{n}" for n in (9, 3, 7, 1, 5))
GROUPS = [f"research-group-{n:03}" for n in range(12)] + ['älteste "7"\n']


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(tag, data):
    return hashlib.sha256(tag.encode() + b"\n" + data).hexdigest()


def text(value):
    return canonical(value).decode()


def der(key):
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def header(version=2, **more):
    return text({"chain": CHAIN, "format": "iam-sorry-audit", "v": version, **more})


def record_line(record):
    return text({"hash": sha256("iam-sorry audit record v1", canonical(record)), "record": record})


def ssh_string(data):
    return struct.pack(">I", len(data)) + data


def signed_request(body):
    request = {
        "body_sha256": hashlib.sha256(body.encode()).hexdigest(),
        "idempotency_key": "key-00000001",
        "method": "POST",
        "origin": "https://iam.example.org",
        "path": "/api/v1/users/lab-robot/keys",
        "time": "2026-11-22T20:00:00Z",
    }
    hashed = hashlib.sha512(canonical(request)).digest()
    message = b"SSHSIG" + b"".join(map(ssh_string, (b"request@iam-sorry", b"", b"sha512", hashed)))
    raw = PERSON.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    blob = base64.b64encode(ssh_string(b"ssh-ed25519") + ssh_string(raw)).decode()
    signature = ssh_string(b"ssh-ed25519") + ssh_string(PERSON.sign(message))
    return {"body": body, "key": f"ssh-ed25519 {blob}", "request": request, "signature": base64.b64encode(signature).decode()}


class Lane:
    def __init__(self, trail, name):
        self.trail, self.name, self.seq, self.open, self.settled, self.known = trail, name, 0, True, False, set()
        chain = bytes.fromhex(CHAIN)
        self.hash = sha256("iam-sorry audit chain v1", chain) if name == ZERO else sha256("iam-sorry audit lane v2", chain + bytes.fromhex(name))

    def state(self):
        return f"{self.seq}:{self.hash}"

    def write(self, action="sign-in", groups=("lab",), **more):
        self.seq += 1
        self.trail.clock += 1
        person = {"id": "corp/7", "name": 'älice "7"\n'}
        record = {"action": action, "instance": "one", "person": person, "phase": "event", "previous": self.hash, "seq": self.seq}
        record |= {"time_ms": 1795374000000 + self.trail.clock, "v": 1 if self.name == ZERO else 2} | more
        if self.name == ZERO:
            person["groups"] = list(groups)
            record |= {"address": "", "aws_request_ids": [], "details": {}, "request_id": "", "resource": "", "rules": []}
        else:
            record["lane"] = self.name
            digest = sha256("iam-sorry audit groups v2", canonical(list(groups)))
            if len(canonical(list(groups))) <= 80:
                person |= {"groups": list(groups)} if groups else {}
            elif digest in self.known:
                person["groups_digest"] = digest
            else:
                person |= {"groups": list(groups), "groups_digest": digest}
                self.known.add(digest)
        self.hash = sha256("iam-sorry audit record v1", canonical(record))
        self.trail.lines.append(record_line(record))
        return record

    def close(self):
        self.open = False
        return self.write("service-stopped", (), closes=1)

    def end(self, dead):
        dead.open, dead.settled = False, True
        return self.write("service-lost", (), ends={dead.name: dead.state()})


class Trail:
    def __init__(self, old=0):
        self.lines, self.lanes, self.clock, self.number, self.before = [header(1 if old else 2)], [], 0, 0, None
        if old:
            lane = Lane(self, ZERO)
            for _ in range(old):
                lane.write()
            lane.open = False
            self.lanes.append(lane)

    def open(self):
        links = {"heads": {}}
        for lane in [lane for lane in self.lanes if not lane.settled]:
            lane.settled = not lane.open
            links.setdefault("ends" if lane.name == ZERO else "heads", {})[lane.name] = lane.state()
        lane = Lane(self, next(NAMES))
        self.lanes.append(lane)
        lane.write("service-started", (), **links)
        return lane

    def point(self, body, version):
        signature = SIGNER.sign(f"iam-sorry audit checkpoint v{version}\n".encode() + canonical(body))
        self.lines.append(text({"checkpoint": body, "signature": base64.urlsafe_b64encode(signature).decode().rstrip("=")}))
        self.before = sha256("iam-sorry audit checkpoint hash v2", canonical(body))

    def sign(self, heads=None, time=0):
        heads = heads or {lane.name: lane.state() for lane in self.lanes if not lane.settled}
        self.number += 1
        body = {"chain": CHAIN, "heads": heads, "key": hashlib.sha256(der(SIGNER)).hexdigest(), "number": self.number}
        self.point(body | ({"previous": self.before} if self.before else {}) | {"time_ms": 1795374000000 + time, "v": 2}, 2)

    def sign_v1(self, before):
        lane = self.lanes[0]
        body = {"chain": CHAIN, "hash": lane.hash, "key": hashlib.sha256(der(SIGNER)).hexdigest(), "previous_seq": before}
        self.number = lane.seq
        self.point(body | {"seq": lane.seq, "time_ms": 1795374000000, "v": 1}, 1)

    def case(self, name, sound, **expected):
        return {"name": name, "lines": self.lines, "sound": sound, **expected}


def edit(line, change):
    """The same record with something changed, and hashed anew."""
    record = copy.deepcopy(json.loads(line)["record"])
    change(record)
    return record_line(record)


def names():
    return iter(f"{n:02x}a0b0c0d0e0f00{n % 10}" for n in (9, 3, 7, 1, 5, 8))


def basic():
    """Two instances after a version 1: one stops, one dies, the third goes on."""
    global NAMES
    NAMES = names()
    trail = Trail(old=3)
    trail.sign_v1(0)
    one = trail.open()
    one.write(groups=GROUPS, account="physics", via="agent")
    trail.sign()
    two = trail.open()
    two.write(groups=GROUPS)
    one.write("create-access-key", GROUPS, phase="intent", operation="op-1", signature=signed_request('{"name":"x"}'))
    trail.sign()
    one.close()
    trail.sign()
    three = trail.open()
    three.write("create-access-key", phase="outcome", operation="op-1", outcome="reconciled")
    three.end(two)
    trail.sign()
    return trail, one, two, three


def main():
    cases = []
    add = lambda trail, name, sound, **more: cases.append(trail.case(name, sound, **more))
    whole = {"records": 12, "lanes": 4, "signatures": 1}
    trail, one, two, three = basic()
    add(trail, "whole: version 1, then three lanes, of which one closes and one is ended", True, repeated=0, **whole)
    find = lambda lines, what: next(at for at, line in enumerate(lines) if what in line)

    def changed(name, sound, change, **more):
        trail, one, two, three = basic()
        change(trail.lines, one, two, three)
        add(trail, name, sound, **more)

    def again(lines, *_):
        lines[9:9] = lines[4:9]

    changed("a block again", True, again, repeated=5, **whole)

    def by_lane(lines, one, two, three):
        part, out = [], []
        for line in lines[1:]:
            if '"record"' in line:
                part.append(line)
            else:
                out += sorted(part, key=lambda line: json.loads(line)["record"].get("lane", "")) + [line]
                part = []
        lines[1:] = out + part

    changed("lane after lane between checkpoints", True, by_lane, repeated=0, **whole)
    changed("a header of version 2 within", True, lambda lines, *_: lines.insert(7, header()), repeated=0, **whole)
    states = lambda lanes: {lane.name: lane.state() for lane in lanes if not lane.settled}

    def rotated(name, sound, change=lambda files: None, **more):
        """Three files of a sink, each of which says where it goes on from."""
        global NAMES
        NAMES = names()
        trail = Trail(old=2)
        trail.sign_v1(0)
        files, begins = [], {}

        def cut():
            nonlocal begins
            head = [header(begins=begins)] if begins else []
            files.append(head + trail.lines)
            begins, trail.lines = states(trail.lanes), []

        one = trail.open()
        trail.sign()
        cut()
        one.write(groups=GROUPS)
        two = trail.open()
        trail.sign()
        cut()
        two.write()
        one.close()
        trail.sign()
        cut()
        change(files)
        trail.lines = sum(files, [])
        add(trail, name, sound, **more)

    rotated("three files of a sink", True, records=7, repeated=0, lanes=3)
    rotated("a file of a sink twice", True, lambda files: files.insert(1, files[0]), records=7, repeated=5, lanes=3)
    rotated("a file of a sink is gone", False, lambda files: files.pop(1))
    rotated("a header that names another state", False, lambda files: files[2].__setitem__(0, header(begins={"01a0b0c0d0e0f001": "1:" + "0" * 64})))
    changed("a list of groups in a line of its own", True, lambda lines, *_: lines.insert(1, text({"groups": ["a"], "groups_digest": sha256("iam-sorry audit groups v2", canonical(["a"]))})), repeated=0, **whole)

    remove = lambda what: lambda lines, *_: lines.pop(find(lines, what))
    changed("a record taken away", False, remove('"operation":"op-1","person"'))
    changed("the closing record taken away", False, remove('"closes":1'))
    changed("a checkpoint taken away", False, remove('"number":5'))
    changed("the first record of a lane taken away", False, lambda lines, one, two, three: lines.pop(find(lines, f'"lane":"{two.name}"')))

    def drop(which):
        def change(lines, *lanes):
            lines[:] = [line for line in lines if f'"lane":"{lanes[which].name}"' not in line]

        return change

    changed("a lane that closed taken away", False, drop(0))
    changed("a lane that was ended taken away", False, drop(1))
    changed("the last lane taken away", False, drop(2))
    changed("the header of another trail", False, lambda lines, *_: lines.insert(5, header().replace("03", "04", 1)))

    def late(which):
        def change(lines, *lanes):
            trail = Trail()
            lane = lanes[which]
            lane.trail = trail
            lane.write()
            lines.append(trail.lines[-1])

        return change

    changed("a record behind the end of a dead instance's lane", False, late(1))
    changed("a record behind a closing record", False, late(0))

    def version_1_goes_on(lines, *_):
        trail = Trail()
        lane = Lane(trail, ZERO)
        lane.seq, lane.hash = 3, json.loads(lines[3])["hash"]
        lane.write()
        lines.append(trail.lines[-1])

    changed("version 1 goes on behind its end", False, version_1_goes_on)

    def swap(lines, one, two, three):
        at = find(lines, f'"lane":"{three.name}"')

        def exchange(record):
            record["heads"] = dict(zip(record["heads"], reversed(list(record["heads"].values()))))

        lines[at] = edit(lines[at], exchange)

    changed("the states that a record names exchanged", False, swap)

    def put(what, field, value):
        def change(lines, *_):
            at = find(lines, what)
            lines[at] = edit(lines[at], lambda record: field(record).update(value))

        return change

    person = lambda record: record["person"]
    changed("a list of groups changed and all hashed anew", False, put('"via":"agent"', person, {"groups": GROUPS[1:]}))

    def no_list(lines, one, *_):
        at = find(lines, '"via":"agent"')
        lines[at] = edit(lines[at], lambda record: record["person"].pop("groups"))

    changed("a digest without its list", False, no_list)
    signature = lambda record: record["signature"]["request"]
    changed("a signed request for something else", False, put('"signature":{', signature, {"path": "/api/v1/users/root/keys"}))
    changed("a body that was not signed", False, put('"signature":{', lambda record: record["signature"], {"body": "{}"}))

    def own(signed, name, sound, **more):
        """Trails that are whole but for what is signed."""
        global NAMES
        NAMES = names()
        trail = Trail()
        signed(trail)
        add(trail, name, sound, **more)

    def omitted(trail):
        one, two = trail.open(), trail.open()
        trail.sign()
        one.write()
        trail.sign({one.name: one.state()})

    own(omitted, "a checkpoint that leaves out a lane", False)

    def wrong_state(trail):
        one, two = trail.open(), trail.open()
        trail.sign({one.name: two.state(), two.name: one.state()})

    own(wrong_state, "a checkpoint whose states are exchanged", False)

    def forked(trail):
        one = trail.open()
        trail.sign()
        before = trail.before
        one.write()
        trail.sign()
        trail.before = before
        one.write()
        trail.sign()

    own(forked, "a checkpoint that does not follow the one before", False)

    def left_out(trail):
        one, two = trail.open(), trail.open()
        trail.sign({one.name: one.state()}, time=3_700_000)

    own(left_out, "a lane that is never signed", False)

    def no_heads(trail):
        lane = Lane(trail, "aa" * 8)
        trail.lanes.append(lane)
        lane.write()
        trail.sign()

    own(no_heads, "a first record that names no lanes", False)

    def one_lane(trail):
        lane = trail.open()
        lane.write(groups=())
        trail.sign()

    own(one_lane, "one lane", True, records=2, repeated=0)

    pem = SIGNER.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    comment = "Made by tests/audit_trail/make_vectors.py from docs/audit-format.md alone: exports, whether they are sound, and what is in them."
    print(json.dumps({"comment": comment, "public_key": pem.decode(), "cases": cases}, indent=1))


main()
