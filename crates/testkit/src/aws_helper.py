# One long-lived boto3 process that makes AWS calls for Rust tests: a JSON request per line in, a JSON answer per line out.
# {"endpoint", "service", "op", "args", "key", "secret", "token", "region"} -> {"ok": ...} or {"code", "message", "status"}
import json
import sys

import boto3
import botocore.config
import botocore.exceptions

clients = {}
config = botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=10, read_timeout=30)


def client(q):
    wanted = tuple(q.get(k) for k in ("service", "endpoint", "region", "key", "secret", "token"))
    if wanted not in clients:
        service, endpoint, region, key, secret, token = wanted
        clients[wanted] = boto3.client(
            service, endpoint_url=endpoint, region_name=region, aws_access_key_id=key,
            aws_secret_access_key=secret, aws_session_token=token, config=config,
        )
    return clients[wanted]


def plain(value):
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if hasattr(value, "strftime") else str(value)


def answer(q):
    try:
        result = getattr(client(q), q["op"])(**q["args"])
        result.pop("ResponseMetadata", None)
        return {"ok": result}
    except botocore.exceptions.ClientError as e:
        error = e.response.get("Error", {})
        status = e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return {"code": error.get("Code", ""), "message": error.get("Message", ""), "status": status}
    except Exception as e:
        return {"code": type(e).__name__, "message": str(e), "status": 0}


for line in sys.stdin:
    sys.stdout.write(json.dumps(answer(json.loads(line)), default=plain) + "\n")
    sys.stdout.flush()
