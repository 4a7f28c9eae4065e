"""Verifies an export of the audit trail with nothing of iam-sorry's own: verify.py EXPORT [PUBLIC-KEY.pem]"""
import base64, hashlib, json, sys

def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

def sha256(tag, data):
    return hashlib.sha256(tag.encode() + b"\n" + data).hexdigest()

lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8", newline="\n")]
previous = sha256("iam-sorry audit chain v1", bytes.fromhex(lines[0]["chain"]))
seq = 0
for line in lines[1:]:
    if "record" in line:
        record, seq = line["record"], seq + 1
        assert record["seq"] == seq, f"record {seq} is missing"
        assert record["previous"] == previous, f"record {seq} does not follow"
        previous = sha256("iam-sorry audit record v1", canonical(record))
        assert line["hash"] == previous, f"record {seq} was changed"
    else:
        point = line["checkpoint"]
        assert (point["seq"], point["hash"], point["chain"]) == (seq, previous, lines[0]["chain"]), "rebuilt"
        if len(sys.argv) > 2:
            from cryptography.hazmat.primitives.serialization import load_pem_public_key
            signature = base64.urlsafe_b64decode(line["signature"] + "==")
            signed = b"iam-sorry audit checkpoint v1\n" + canonical(point)
            load_pem_public_key(open(sys.argv[2], "rb").read()).verify(signature, signed)
print(seq, previous)
