//! `whoami`, `explain`, `sessions`: who the person is to the service, and what they may do.

use http::Method;
use iam_sorry_core::api::{ExplainRequest, Explanation, Me, SessionInfo};

use super::request::{MAX_LISTED, list_path, with_client};
use super::show;
use crate::app::App;
use crate::args::{Listing, Sessions};
use crate::error::Result;
use crate::output::printable;
use crate::service::encoded;

pub fn whoami(app: &App, json: bool) -> Result<()> {
    let me: Me = with_client(app, async |client| client.get("/me").await)?;
    if json {
        return show::json(app, &me);
    }
    let namespaces = me.namespaces.iter().map(|namespace| namespace.name.as_str()).collect::<Vec<_>>();
    show::facts(
        app,
        &[
            ("Name", me.identity.name.clone()),
            ("ID", me.identity.id()),
            ("Signed in by", signed_in_by(&me)),
            ("Session ends", me.session.expires_at.clone()),
            ("Groups", me.identity.groups.join(", ")),
            ("Namespaces", namespaces.join(", ")),
            ("Roles", me.roles.join(", ")),
            ("Auditor", if me.auditor { "yes".to_owned() } else { String::new() }),
        ],
    )
}

/// For example `ssh-key, registered by ldap`; rules can depend on both.
fn signed_in_by(me: &Me) -> String {
    match me.session.key_registered_by {
        Some(origin) => format!("{}, registered by {origin}", me.identity.method),
        None => me.identity.method.to_string(),
    }
}

pub fn explain(
    app: &App,
    action: String,
    resource: String,
    policy_arn: Option<String>,
    json: bool,
) -> Result<()> {
    let duration_seconds = match &app.global.duration {
        Some(_) => Some(app.duration()?.seconds()),
        None => None,
    };
    let request = ExplainRequest { action, resource, policy_arn, duration_seconds };
    let explained: Explanation = with_client(app, async |client| client.post("/explain", &request).await)?;
    if json {
        return show::json(app, &explained);
    }
    app.out.line(if explained.allowed { "allowed" } else { "not allowed" })?;
    for reason in &explained.reasons {
        app.out.line(format!("  {}", printable(reason)))?;
    }
    if let Some(longest) = explained.longest_seconds {
        let longest = iam_sorry_core::timestamp::human_duration(i64::from(longest));
        app.out.line(format!("  for {longest} at most"))?;
    }
    Ok(())
}

pub fn run(app: &App, action: Sessions) -> Result<()> {
    match action {
        Sessions::List { listing } => list(app, &listing),
        Sessions::End { id } => {
            with_client(app, async |client| {
                client.execute(Method::DELETE, &format!("/sessions/{}", encoded(&id))).await
            })?;
            app.out.done(format!("Session {id} is ended"))
        }
    }
}

fn list(app: &App, listing: &Listing) -> Result<()> {
    let path = list_path("/sessions", listing.all);
    let sessions: Vec<SessionInfo> = with_client(app, async |client| client.list(&path, MAX_LISTED).await)?;
    if listing.json {
        return show::json(app, &sessions);
    }
    let row = |s: SessionInfo| {
        let this = if s.current { "this one" } else { "" };
        vec![s.id, s.name, s.method.to_string(), s.address, s.signed_in_at, s.last_used_at, this.to_owned()]
    };
    show::table(
        app,
        &["ID", "NAME", "BY", "ADDRESS", "SIGNED IN", "LAST USED", ""],
        sessions.into_iter().map(row).collect(),
    )
}
