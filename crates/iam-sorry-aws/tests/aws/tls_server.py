# A TLS server with a CA of its own that answers every request as sts:GetCallerIdentity would. Prints its port, writes the
# CA to argv[1], ends when stdin closes (with the test process).
import datetime, http.server, ipaddress, os, ssl, sys, tempfile, threading
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

def certificate(subject, key, issuer, signer, extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
               .public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1)))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ca = certificate("test CA", ca_key, "test CA", ca_key, [x509.BasicConstraints(ca=True, path_length=None)])
names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
cert = certificate("localhost", key, "test CA", ca_key, [x509.BasicConstraints(ca=False, path_length=None), names])
with open(sys.argv[1], "wb") as f:
    f.write(ca)

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = (b'<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
                b"<Arn>arn:aws:iam::123456789012:user/tls</Arn><UserId>AIDA</UserId><Account>123456789012</Account>"
                b"</GetCallerIdentityResult></GetCallerIdentityResponse>")
        self.send_response(200)
        self.send_header("content-type", "text/xml")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that refuses our certificate is what some tests want

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
with tempfile.NamedTemporaryFile() as pem:
    pem.write(cert + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                       serialization.NoEncryption()))
    pem.flush()
    context.load_cert_chain(pem.name)
server = Server(("127.0.0.1", 0), Answer)
# The handshake is each connection's own, so that one that fails does not stop the rest.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
os._exit(0)
