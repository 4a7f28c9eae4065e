//! Manual pages, and the IAM policy that a manager needs.

use clap::CommandFactory;
use iam_sorry_aws::policy::{PolicyRequest, manager_policy, namespace_admin_policy};
use iam_sorry_core::names::{Namespace, partition_of_region};

use crate::app::App;
use crate::args::{Cli, PolicyArgs};
use crate::error::{Error, Result};
use crate::settings::VARIABLES;

/// Prints the manual page of the program, or of one verb.
pub fn man(app: &App, verb: Option<&str>) -> Result<()> {
    let mut program = Cli::command();
    program.build();
    let mut text = Vec::new();
    let rendered = match verb {
        None => {
            let page = clap_mangen::Man::new(program);
            page.render(&mut text).and_then(|()| render_variables(&mut text))
        }
        Some(verb) => {
            let command = program.find_subcommand(verb).ok_or_else(|| {
                Error::usage(format!("There is no verb '{verb}'")).hint("See them all: iam-sorry --help")
            })?;
            let command = command.clone().name(format!("iam-sorry-{verb}"));
            clap_mangen::Man::new(command).render(&mut text)
        }
    };
    rendered.map_err(|e| Error::other(format!("The manual page could not be made: {e}")))?;
    app.out.raw(&String::from_utf8_lossy(&text))
}

fn render_variables(page: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(page, ".SH ENVIRONMENT")?;
    for (name, meaning) in VARIABLES {
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", name.replace('-', "\\-"), meaning.replace('-', "\\-"))?;
    }
    Ok(())
}

/// Prints the least policy for a manager, ready to attach.
pub fn policy(app: &App, args: &PolicyArgs) -> Result<()> {
    let users = match &args.namespace {
        Some(prefix) => Namespace::parse(prefix)?.patterns(),
        None => args.users.clone(),
    };
    let region = app.global.region.as_deref().or(app.settings.region.as_deref()).unwrap_or("us-east-1");
    let partition = args.partition.as_deref().unwrap_or_else(|| partition_of_region(region));
    let request = PolicyRequest {
        partition: partition.to_owned(),
        account: Some(args.account.clone()).filter(|account| account != "*"),
        users,
    };
    if args.rotate {
        app.out.progress("Every policy has what 'rotate' needs by now, with and without --rotate");
    }
    let text = if args.create_users {
        namespace_admin_policy(&request, &args.boundary)
    } else {
        manager_policy(&request)
    };
    app.out.line(text.map_err(|e| Error::usage(e.to_string()))?)?;
    if args.create_users {
        let name = &args.boundary;
        app.out.progress(format!(
            "It lets its holder make users only with the managed policy '{name}' as their permissions boundary.\n\
             Make that policy first: it is the most that those users can ever do. Then:\n  \
             aws iam create-user --user-name NAME --permissions-boundary ARN-OF-{name}"
        ));
    }
    Ok(())
}
