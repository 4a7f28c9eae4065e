//! One request over and over. `{n}` in path and body is a number that no other request of the run has.
//!
//!     service-bench load address=127.0.0.1:1 method=POST path=/x header='authorization: Bearer y' body='{}'
//!         clients=16 seconds=10   (or count=1000)

use std::rc::Rc;

use crate::clients::{self, Client};
use crate::{Error, Options};

struct Plan {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    unique: String,
}

pub async fn run(options: &Options) -> Result<(), Error> {
    let address = options.text("address", "").to_owned();
    let mut headers = Vec::new();
    for line in options.all("header") {
        let (name, value) = line.split_once(':').ok_or("a header is NAME: VALUE")?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let plan = Rc::new(Plan {
        method: options.text("method", "GET").to_owned(),
        path: options.text("path", "/").to_owned(),
        headers,
        body: options.text("body", "").to_owned(),
        // Different in every run, so that no request is a repetition of one of an earlier run.
        unique: format!("{:x}", std::time::UNIX_EPOCH.elapsed()?.as_micros()),
    });
    let work = move |number: u64, turn: u64, mut client: Client| {
        let plan = Rc::clone(&plan);
        async move {
            let n = format!("{}-{number}-{turn}", plan.unique);
            let fill = |text: &str| text.replace("{n}", &n).replace("{client}", &number.to_string());
            let headers: Vec<_> = plan.headers.iter().map(|(name, value)| (name.clone(), fill(value))).collect();
            let answer = client.ask(&plan.method, &fill(&plan.path), &headers, fill(&plan.body)).await;
            let outcome = match answer {
                Ok((status, _)) if status.is_success() => Ok(()),
                Ok((status, body)) => Err((status.as_u16().to_string(), String::from_utf8_lossy(&body).into_owned())),
                Err(error) => Err(("no answer".to_owned(), error.to_string())),
            };
            (client, outcome)
        }
    };
    clients::run(options, move |_| Client::new(&address), work).await
}
