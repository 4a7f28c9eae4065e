//! A service's users on moto, which has what the other emulator lacks: SSH public keys, signing certificates, and moving a
//! user to another path. Service-specific credentials are in neither, so a few lines of a server of the test's own speak
//! for them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use iam_sorry_aws::NotMade;
use iam_sorry_aws::managed::{self, NewUser};
use iam_sorry_aws::removal::delete_completely;
use iam_sorry_aws::{Aws, AwsError, Settings, keeping_request_ids, take_request_ids};
use iam_sorry_core::credentials::Credentials;
use serde_json::{Value, json};
use testkit::{Creds, Moto};

use crate::scene::{name, ours, run};

fn aws_at(endpoint: &str) -> Aws {
    let mut settings = Settings::new("us-east-1");
    settings.endpoint_iam = Some(endpoint.to_owned());
    Aws::new(&settings).unwrap()
}

fn anybody() -> Credentials {
    ours(&Creds::new("AKIAIOSFODNN7EXAMPLE", "secret"))
}

fn call(op: &str, args: Value) -> Value {
    Moto::shared().aws().call("iam", op, args, &Creds::new("test", "test")).unwrap()
}

fn new_user(user: &str) -> NewUser {
    NewUser {
        name: name(user),
        path: "/iam-sorry/dirk/".into(),
        boundary: None,
        tags: vec![("managed-by".into(), "iam-sorry".into()), ("iam-sorry-owner".into(), "corp/1".into())],
    }
}

/// An X.509 certificate of openssl's, since moto reads it.
fn certificate() -> String {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("k"), folder.path().join("c"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=zoe", "-days", "2", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl (apt) starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read_to_string(certificate).unwrap()
}

/// vault#16685.
#[test]
fn eight_of_the_nine_kinds_of_attachment_go_before_the_user() {
    let (aws, me) = (aws_at(&serve(before_moto)), anybody());
    let zoe = json!({"UserName": "zoe"});
    let with = |more: Value| {
        let mut args = zoe.clone();
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    run(managed::create(&aws, &me, &new_user("zoe"))).unwrap();
    let keys = [(); 2].map(|()| Creds::from_json(&call("create_access_key", zoe.clone())["AccessKey"]).key);
    call("create_login_profile", with(json!({"Password": "x-9-Y-long-enough"})));
    let device = call("create_virtual_mfa_device", json!({"VirtualMFADeviceName": "phone-of-zoe"}));
    let serial = device["VirtualMFADevice"]["SerialNumber"].as_str().unwrap().to_owned();
    let codes =
        json!({"SerialNumber": serial, "AuthenticationCode1": "123456", "AuthenticationCode2": "654321"});
    call("enable_mfa_device", with(codes));
    let body = certificate();
    let certificate = call("upload_signing_certificate", with(json!({"CertificateBody": body})));
    let certificate = certificate["Certificate"]["CertificateId"].as_str().unwrap().to_owned();
    let public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVmLN2DcIdSTRBXw6zQc3Ly4NOfXZjxD9dxy8zRzqM7 zoe";
    let ssh = call("upload_ssh_public_key", with(json!({"SSHPublicKeyBody": public})));
    let ssh = ssh["SSHPublicKey"]["SSHPublicKeyId"].as_str().unwrap().to_owned();
    let document = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
    .to_string();
    call("put_user_policy", with(json!({"PolicyName": "inline-one", "PolicyDocument": document})));
    let made = call("create_policy", json!({"PolicyName": "managed-one", "PolicyDocument": document}));
    let arn = made["Policy"]["Arn"].as_str().unwrap().to_owned();
    call("attach_user_policy", with(json!({"PolicyArn": arn})));
    call("create_group", json!({"GroupName": "staff"}));
    call("add_user_to_group", with(json!({"GroupName": "staff"})));

    let removed = run(delete_completely(&aws, &me, &name("zoe"))).unwrap();
    let lines = removed.parts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in
        [&keys[0], &keys[1], "login profile", &serial, &certificate, &ssh, "inline-one", &arn, "group staff"]
    {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    let error = run(managed::facts(&aws, &me, &name("zoe"))).unwrap_err();
    assert!(matches!(error, AwsError::NoSuchUser { .. }), "{error}");
    assert_eq!(call("list_virtual_mfa_devices", json!({}))["VirtualMFADevices"], json!([]));
    let again = run(delete_completely(&aws, &me, &name("zoe"))).unwrap();
    assert!(again.was_gone && again.parts.is_empty(), "{again:?}");
}

#[test]
fn a_user_is_known_again_by_path_and_tags_and_can_be_moved() {
    let (aws, me) = (aws_at(&Moto::shared().endpoint()), anybody());
    let made = run(managed::create(&aws, &me, &new_user("yan"))).unwrap();
    assert_eq!((made.path.as_str(), made.boundary.as_ref()), ("/iam-sorry/dirk/", None));
    // moto's GetUser shows no tags, as IAM's and the other emulator's do, and moving a user loses them there.
    let tags = call("list_user_tags", json!({"UserName": "yan"}))["Tags"].to_string();
    assert!(tags.contains("corp/1"), "{tags}");
    let again = run(managed::create(&aws, &me, &new_user("yan"))).unwrap_err();
    let NotMade::Certainly(AwsError::Refused { code, .. }) = again else { panic!("{again:?}") };
    assert_eq!(code, "EntityAlreadyExists");
    run(managed::move_to(&aws, &me, &name("yan"), "/iam-sorry/lab/")).unwrap();
    let facts = run(managed::facts(&aws, &me, &name("yan"))).unwrap();
    assert!(facts.arn.ends_with(":user/iam-sorry/lab/yan") && facts.id == made.id, "{facts:?}");
}

#[test]
fn aws_request_ids_are_kept_within_the_work_that_asks_for_them() {
    let (aws, me) = (aws_at(&Moto::shared().endpoint()), anybody());
    let (first, second) = run(keeping_request_ids(async {
        let _ = managed::facts(&aws, &me, &name("nobody-1")).await;
        let _ = managed::facts(&aws, &me, &name("nobody-2")).await;
        (take_request_ids(), take_request_ids())
    }));
    assert!(first.len() == 2 && first[0] != first[1] && second.is_empty(), "{first:?} {second:?}");
    assert!(run(async { take_request_ids() }).is_empty());
}

/// A request's head without Connection, and its body.
fn read_request(stream: &TcpStream) -> std::io::Result<(String, String)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        if !line.to_ascii_lowercase().starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}

/// moto, but that it does not know service-specific credentials in the way that AWS says so: moto itself answers 500.
fn before_moto(stream: &TcpStream) -> std::io::Result<()> {
    let (head, body) = read_request(stream)?;
    let mut stream = stream;
    if body.contains("Action=ListServiceSpecificCredentials") {
        let xml = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidAction</Code><Message>no</Message></Error>\
                   </ErrorResponse>";
        let length = xml.len();
        return write!(
            stream,
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{xml}"
        );
    }
    let mut moto = TcpStream::connect(Moto::shared().address())?;
    write!(moto, "{head}Connection: close\r\n\r\n{body}")?;
    let mut answer = Vec::new();
    moto.read_to_end(&mut answer)?;
    stream.write_all(&answer)
}

/// Serves until the test process ends.
fn serve(each: impl Fn(&TcpStream) -> std::io::Result<()> + Send + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(each(&stream))));
    format!("http://{address}")
}

/// IAM's query protocol as far as a deletion goes: lists that are empty, but for two pages of one of them.
fn answer(stream: &TcpStream, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (_, body) = read_request(stream)?;
    let value = |name: &str| {
        body.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    let action = value("Action");
    let credential = |id: &str| {
        format!(
            "<ServiceSpecificCredentials><member><UserName>zoe</UserName><Status>Active</Status>\
             <ServiceUserName>zoe-at-1</ServiceUserName><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
             <ServiceSpecificCredentialId>{id}</ServiceSpecificCredentialId>\
             <ServiceName>codecommit.amazonaws.com</ServiceName></member></ServiceSpecificCredentials>"
        )
    };
    let result = match (action.as_str(), value("Marker").as_str()) {
        ("ListServiceSpecificCredentials", "") => {
            credential("ACCAONE") + "<IsTruncated>true</IsTruncated><Marker>page2</Marker>"
        }
        ("ListServiceSpecificCredentials", "page2") => {
            credential("ACCATWO") + "<IsTruncated>false</IsTruncated>"
        }
        _ => "<IsTruncated>false</IsTruncated>".to_owned(),
    };
    seen.lock().unwrap().push(format!("{action} {}", value("ServiceSpecificCredentialId")));
    let xml = format!(
        "<{action}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><{action}Result>{result}</{action}Result>\
         </{action}Response>"
    );
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{xml}",
        xml.len()
    )
}

#[test]
fn service_specific_credentials_go_page_by_page() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let endpoint = serve({
        let seen = Arc::clone(&seen);
        move |stream| answer(stream, &seen)
    });
    let aws = aws_at(&endpoint);
    let removed = run(delete_completely(&aws, &anybody(), &name("zoe"))).unwrap();
    let lines = removed.parts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(lines.contains("credential ACCAONE") && lines.contains("credential ACCATWO"), "{lines}");
    let seen = seen.lock().unwrap();
    let deleted: Vec<_> = seen.iter().filter(|call| call.starts_with("DeleteServiceSpecific")).collect();
    assert_eq!(deleted.len(), 2, "{seen:?}");
    assert_eq!(seen.last().unwrap(), "DeleteUser ");
}

/// Only an endpoint that does not know the action at all has "none"; a refusal is a refusal.
#[test]
fn a_refusal_is_never_taken_for_nothing_there() {
    let scene = crate::scene::Scene::new();
    for action in
        ["ListSSHPublicKeys", "ListSigningCertificates", "ListServiceSpecificCredentials", "ListMFADevices"]
    {
        scene.proxy.fault_once(action, testkit::Fault::Status(403, "AccessDenied"));
        let error = run(delete_completely(&scene.aws, &scene.manager, &name("alice"))).unwrap_err();
        assert!(error.is_denied() && error.to_string().contains(action), "{action}: {error}");
    }
    run(delete_completely(&scene.aws, &scene.manager, &name("alice"))).unwrap();
}
