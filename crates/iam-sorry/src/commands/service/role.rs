//! `refresh --role ARN --as PROFILE`, and later `refresh PROFILE`.

use crate::app::App;
use crate::error::Result;
use crate::provider::department::refresh_role;

pub fn refresh(app: &App, arn: &str, profile_name: &str) -> Result<()> {
    let credentials = refresh_role(app, arn, profile_name, None)?;
    app.out.done(format!("Successfully updated profile '{profile_name}'"))?;
    app.out.done(format!("Role: {arn}"))?;
    let expires = credentials.expiration.map_or_else(|| "unknown".into(), |at| at.to_string());
    app.out.done(format!("Credentials expire at: {expires}"))
}
