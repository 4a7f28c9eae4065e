"""Verifies an export of the audit trail with nothing of iam-sorry's own: verify.py EXPORT [PUBLIC-KEY.pem]"""
import base64, hashlib, json, sys

def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

def sha256(tag, data):
    return hashlib.sha256(tag.encode() + b"\n" + data).hexdigest()

lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8", newline="\n")]
chain, repeated = lines[0]["chain"], 0
hashes = [sha256("iam-sorry audit chain v1", bytes.fromhex(chain))]  # by sequence number
for line in lines:
    if "record" in line:
        record, seq = line["record"], line["record"]["seq"]
        assert line["hash"] == sha256("iam-sorry audit record v1", canonical(record)), f"record {seq} was changed"
        if 0 < seq < len(hashes):  # again: the same record, or one that was put in
            assert line["hash"] == hashes[seq], f"a second record {seq}"
            repeated += 1
            continue
        assert seq == len(hashes), f"record {len(hashes)} is missing"
        assert record["previous"] == hashes[-1], f"record {seq} does not follow"
        hashes.append(line["hash"])
    elif "checkpoint" in line:
        point = line["checkpoint"]
        assert point["chain"] == chain and hashes[point["seq"]] == point["hash"], "rebuilt"
        if len(sys.argv) > 2:
            from cryptography.hazmat.primitives.serialization import load_pem_public_key
            signature = base64.urlsafe_b64decode(line["signature"] + "==")
            signed = b"iam-sorry audit checkpoint v1\n" + canonical(point)
            load_pem_public_key(open(sys.argv[2], "rb").read()).verify(signature, signed)
    else:
        assert line["chain"] == chain, "another trail"
print(len(hashes) - 1, hashes[-1], *([f"{repeated} repeated"] if repeated else []))
