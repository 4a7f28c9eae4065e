"""Verifies an export of the audit trail with nothing of iam-sorry's own: verify.py EXPORT [PUBLIC-KEY.pem]

Written from docs/audit-format.md. The hashes need Python alone; signatures need the package `cryptography`, and are
passed over where no key is given.
"""
import base64, hashlib, json, struct, sys

ZERO = "0" * 16  # the lane of version 1


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(tag, data):
    return hashlib.sha256(tag.encode() + b"\n" + data).hexdigest()


def ssh_string(data):
    return struct.pack(">I", len(data)) + data


def public_key(kind, data):
    from cryptography.hazmat.primitives import serialization

    load = {"pem": serialization.load_pem_public_key, "ssh": serialization.load_ssh_public_key}
    return load[kind](data)


class Lane:
    def __init__(self, chain, name):
        genesis = sha256("iam-sorry audit chain v1", chain) if name == ZERO else sha256("iam-sorry audit lane v2", chain + bytes.fromhex(name))
        self.first, self.hashes, self.times = 1, [genesis], [0]
        self.groups, self.end, self.named = set(), None, 0

    def last(self):
        return self.first + len(self.hashes) - 2

    def hash(self, seq):
        """The hash of a record; of the one before the first, what the first carries."""
        return self.hashes[seq - self.first + 1] if self.first - 1 <= seq <= self.last() else None

    def settled(self):
        return self.end is not None and self.named >= self.end


class Trail:
    def __init__(self, chain, key):
        self.chain, self.key, self.lanes, self.lists = bytes.fromhex(chain), key, {}, set()
        self.states, self.repeated, self.checkpoints, self.names, self.signed = [], 0, [], {}, {}
        self.part = False

    def lane(self, name):
        return self.lanes.setdefault(name, Lane(self.chain, name))

    def header(self, line, first):
        assert bytes.fromhex(line["chain"]) == self.chain and not line.get("filtered"), "another trail, or a filtered export"
        for name, state in line.get("begins", {}).items():
            seq, digest = state.split(":")
            if first:  # a part: it goes on from there
                self.part, lane = True, self.lane(name)
                lane.first, lane.hashes = int(seq) + 1, [digest]
            else:
                self.states.append((name, int(seq), digest, "a header"))

    def record(self, stated, record):
        name, seq = record.get("lane", ZERO), record["seq"]
        assert record["v"] == (1 if name == ZERO else 2), "another version"
        lane, where = self.lane(name), f"record {name}:{seq}"
        assert stated == sha256("iam-sorry audit record v1", canonical(record)), f"{where} was changed"
        if 0 < seq <= lane.last():  # again: the same record, or one that was put in
            assert stated == lane.hash(seq), f"a second {where}"
            self.repeated += 1
            return
        assert seq == lane.last() + 1, f"record {name}:{lane.last() + 1} is missing"
        assert record["previous"] == lane.hashes[-1], f"{where} does not follow"
        assert lane.end is None or seq <= lane.end, f"{where} is behind the end of its lane"
        lane.hashes.append(stated)
        lane.times.append(record["time_ms"])
        if name == ZERO:
            return
        assert seq > 1 or "heads" in record, f"{where} names no lanes"
        for field in ("heads", "ends"):
            for other, state in record.get(field, {}).items():
                assert other != name, f"{where} names its own lane"
                to, digest = state.split(":")
                self.states.append((other, int(to), digest, where))
                self.names.setdefault(name, []).append((seq, other, int(to)))
                self.lane(other).named = max(self.lane(other).named, int(to))
        for other, state in record.get("ends", {}).items():
            self.end(other, int(state.split(":")[0]))
        if record.get("closes"):
            self.end(name, seq)
        self.groups(lane, record["person"], where)
        if "signature" in record:
            self.signature(record["signature"], where)

    def end(self, name, seq):
        lane = self.lane(name)
        assert lane.end in (None, seq) and lane.last() <= seq, f"{name} goes on behind its end"
        lane.end = seq

    def groups(self, lane, person, where):
        digest = person.get("groups_digest")
        if digest and "groups" in person:
            assert digest == sha256("iam-sorry audit groups v2", canonical(person["groups"])), f"groups of {where}"
            lane.groups.add(digest)
        elif digest:
            assert digest in lane.groups | self.lists, f"{where} names groups that are not here"

    def signature(self, signature, where):
        request = signature["request"]
        if "body" in signature:
            assert request["body_sha256"] == hashlib.sha256(signature["body"].encode()).hexdigest(), f"body of {where}"
        if not self.key:
            return
        message = hashlib.sha512(canonical(request)).digest()
        signed = b"SSHSIG" + b"".join(map(ssh_string, (b"request@iam-sorry", b"", b"sha512", message)))
        blob = base64.b64decode(signature["signature"])
        assert blob[:19] == ssh_string(b"ssh-ed25519") + struct.pack(">I", 64), f"signature of {where}"
        public_key("ssh", signature["key"].encode()).verify(blob[19:], signed)

    def checkpoint(self, point, signature):
        assert bytes.fromhex(point["chain"]) == self.chain, "another trail"
        version = point["v"]
        if self.key:
            raw = base64.urlsafe_b64decode(signature + "==")
            public_key("pem", self.key).verify(raw, f"iam-sorry audit checkpoint v{version}\n".encode() + canonical(point))
        digest = sha256("iam-sorry audit checkpoint hash v2", canonical(point))
        heads = point["heads"] if version == 2 else {ZERO: f'{point["seq"]}:{point["hash"]}'}
        number = point["number"] if version == 2 else point["seq"]
        if (number, digest) in [(number, digest) for number, digest, _ in self.checkpoints]:
            self.repeated += 1
            return
        for name, state in heads.items():
            seq, hash = state.split(":")
            self.states.append((name, int(seq), hash, f"checkpoint {number}"))
        if self.checkpoints:
            before, its, covered = self.checkpoints[-1]
            if version == 2:
                assert number == before + 1 and point["previous"] == its, f"checkpoint {number} does not follow"
            else:
                assert point["previous_seq"] == before, f"checkpoint {number} does not follow"
            for name in covered:
                assert name in heads or self.lane(name).settled(), f"checkpoint {number} leaves out {name}"
        self.checkpoints.append((number, digest, heads))
        self.last = point["time_ms"]

    def cover(self, name, seq):
        """A signature over a record covers what that record names."""
        due = [(name, seq)]
        while due:
            name, seq = due.pop()
            if seq > self.signed.get(name, 0):
                self.signed[name] = seq
                due += [(other, to) for at, other, to in self.names.get(name, []) if at <= seq]

    def finish(self):
        for _, _, heads in self.checkpoints:
            for name, state in heads.items():
                self.cover(name, int(state.split(":")[0]))
        for name, lane in self.lanes.items():
            late = [time for time in lane.times[max(self.signed.get(name, 0) - lane.first + 2, 1) :][:1] if self.checkpoints and time < self.last - 3_600_000]
            assert not late, f"lane {name} was kept from being signed"
        for name, seq, digest, who in self.states:
            lane = self.lane(name)
            if self.part and (seq < lane.first - 1 or not lane.named and not lane.last()):
                continue  # before what is here
            assert seq <= lane.last(), f"record {name}:{seq} is missing: {who} names it"
            assert lane.hash(seq) == digest, f"record {name}:{seq} is not the one that {who} names"
        count = sum(len(lane.hashes) - 1 for lane in self.lanes.values())
        live = sorted((name, lane) for name, lane in self.lanes.items() if not lane.settled())
        print("part" if self.part else "whole", count, *(f"{name}:{lane.last()}:{lane.hashes[-1]}" for name, lane in live), end="")
        print(f" {self.repeated} repeated" if self.repeated else "")


lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8", newline="\n")]
trail = Trail(lines[0]["chain"], open(sys.argv[2], "rb").read() if len(sys.argv) > 2 else None)
for number, line in enumerate(lines):
    if "record" in line:
        trail.record(line["hash"], line["record"])
    elif "checkpoint" in line:
        trail.checkpoint(line["checkpoint"], line["signature"])
    elif "groups" in line:
        assert line["groups_digest"] == sha256("iam-sorry audit groups v2", canonical(line["groups"])), "groups"
        trail.lists.add(line["groups_digest"])
    else:
        trail.header(line, number == 0)
trail.finish()
