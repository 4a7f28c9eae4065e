//! Looking at AWS and the directory in the background.

use std::sync::Arc;

use iam_sorry_aws::{AwsError, lookup};
use iam_sorry_core::ids::AccountName;
use tokio::task::JoinHandle;

use crate::login::ldap::Directory;
use crate::operations::neighbours::{Neighbour, Watched};
use crate::runtime;
use crate::service::Service;

/// The tasks that look; they end when this is dropped.
#[derive(Debug)]
pub struct Watching(Vec<JoinHandle<()>>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Service {
    /// Starts to look at AWS and the directory. Once for each service.
    pub fn watch_neighbours(&self) -> Watching {
        let mut all = vec![Watched::new("aws")];
        let service = self.clone();
        let mut tasks = vec![runtime::spawn(Arc::clone(&all[0]).watch(move || {
            let service = service.clone();
            async move { service.look_at_aws().await }
        }))];
        let directories = self.sign_in().methods().directories();
        for directory in directories {
            let watched = match directories.len() {
                1 => Watched::new("directory"),
                _ => Watched::new(&format!("directory {}", directory.issuer())),
            };
            all.push(Arc::clone(&watched));
            let directory = Arc::clone(directory);
            tasks.push(runtime::spawn(watched.watch(move || look_at(Arc::clone(&directory)))));
        }
        self.inner.neighbours.set(all);
        Watching(tasks)
    }

    /// How AWS and the directory are.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        self.inner.neighbours.states()
    }

    /// sts:GetCallerIdentity, which everybody may call whose credentials are good (STS API reference).
    async fn look_at_aws(&self) -> Result<(), String> {
        for account in self.accounts().iter() {
            self.look_at_account(&account.name).await?;
        }
        Ok(())
    }

    async fn look_at_account(&self, account: &AccountName) -> Result<(), String> {
        let handle = self.handle(account).await;
        let handle = handle.map_err(|_| "the service has no AWS credentials".to_owned())?;
        match lookup::caller(&handle.aws, &handle.credentials).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, %account, "AWS");
                Err(match error {
                    AwsError::Throttled { .. } => return Ok(()),
                    AwsError::Unreachable { .. } | AwsError::Interrupted => "AWS can't be reached",
                    AwsError::ClockSkew { .. } => "AWS refuses the service: its clock is wrong",
                    AwsError::InvalidKey { .. } | AwsError::Refused { .. } => {
                        "AWS refuses the service's credentials"
                    }
                    _ => "AWS answers with something unexpected",
                }
                .to_owned())
            }
        }
    }
}

async fn look_at(directory: Arc<Directory>) -> Result<(), String> {
    directory.try_out().await.map_err(|error| {
        tracing::warn!(%error, "the directory");
        "the directory does not answer as it should; the log says why".to_owned()
    })
}
