//! People who sign in by SSH key over and over, each client a person with a key of their own: a challenge, a signature,
//! a session.
//!
//!     service-bench login address=127.0.0.1:1 origin=http://127.0.0.1:1 clients=16 seconds=10
//!     service-bench login ... count=1 clients=1 token=1    prints the session token instead of figures

use std::rc::Rc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use iam_sorry_core::ssh::login::{self, Origin};
use serde_json::{Value, json};

use crate::clients::{self, Client};
use crate::{Error, Options};

/// Somebody with an Ed25519 key. Keys are made from numbers: they protect nothing but a benchmark.
pub struct Person {
    key: Ed25519KeyPair,
}

impl Person {
    pub fn of(number: u64) -> Result<Self, Error> {
        let mut seed = *b"iam-sorry benchmark, no secret..";
        seed[24..].copy_from_slice(&number.to_be_bytes());
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| "a seed of 32 bytes")?;
        Ok(Self { key })
    }

    /// As in `~/.ssh/id_ed25519.pub`: two length-prefixed strings in base64 (RFC 8709, 4).
    pub fn public_key(&self) -> String {
        let mut blob = Vec::new();
        for part in [&b"ssh-ed25519"[..], self.key.public_key().as_ref()] {
            blob.extend(u32::try_from(part.len()).unwrap_or(0).to_be_bytes());
            blob.extend(part);
        }
        format!("ssh-ed25519 {}", BASE64_STANDARD.encode(blob))
    }

    async fn sign_in(&self, client: &mut Client, origin: &Origin) -> Result<Value, (String, String)> {
        let challenge = post(client, "/login/ssh/challenge", &json!({"public_key": self.public_key()})).await?;
        let part = |name: &str| challenge[name].as_str().unwrap_or_default();
        let message = login::login_message(origin, part("nonce"), part("request"), part("time"))
            .map_err(|error| ("challenge".to_owned(), error.to_string()))?;
        let signature = self.key.sign(&login::to_be_signed(&message));
        let answer = json!({
            "nonce": part("nonce"),
            "public_key": self.public_key(),
            "signature": BASE64_URL_SAFE_NO_PAD.encode(signature),
        });
        post(client, "/login/ssh", &answer).await
    }
}

pub async fn run(options: &Options) -> Result<(), Error> {
    let address = options.text("address", "").to_owned();
    let origin = Origin::parse(options.text("origin", ""))?;
    let first = options.number("first", 0)?;
    if options.text("token", "") == "1" {
        let signed_in = Person::of(first)?.sign_in(&mut Client::new(&address), &origin).await;
        let signed_in = signed_in.map_err(|(kind, text)| format!("{kind}: {text}"))?;
        println!("{}", signed_in["token"].as_str().ok_or("no token")?);
        return Ok(());
    }
    let mut people = Vec::new();
    for number in 0..options.number("clients", 16)? {
        people.push(Person::of(first + number)?);
    }
    let people = Rc::new(people);
    let work = move |number: u64, _: u64, mut client: Client| {
        let (people, origin) = (Rc::clone(&people), origin.clone());
        async move {
            let person = &people[usize::try_from(number).unwrap_or(0)];
            let outcome = person.sign_in(&mut client, &origin).await.map(drop);
            (client, outcome)
        }
    };
    clients::run(options, move |_| Client::new(&address), work).await
}

async fn post(client: &mut Client, path: &str, body: &Value) -> Result<Value, (String, String)> {
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    let answer = client.ask("POST", &format!("/api/v1{path}"), &headers, body.to_string()).await;
    let (status, body) = answer.map_err(|error| ("no answer".to_owned(), error.to_string()))?;
    if status.is_success() {
        serde_json::from_slice(&body).map_err(|error| ("no JSON".to_owned(), error.to_string()))
    } else {
        Err((format!("{path} {}", status.as_u16()), String::from_utf8_lossy(&body).into_owned()))
    }
}
