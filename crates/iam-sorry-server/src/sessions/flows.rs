//! What lies between two steps of a dialogue, on its way into the store and back.

use std::net::IpAddr;

use iam_sorry_store::{FlowCaps, LoginFlow, StoreError};

use crate::error::ServiceError;
use crate::login::flow::{FirstStep, SecondStep};
use crate::login::limits::TooOften;
use crate::service::Service;
use crate::sessions::sign_in_texts::too_often;

impl Service {
    /// Keeps what a first step leaves. `counted_as`: whose share of the table it takes, and whose earlier ones it may push out.
    pub(super) async fn begin_flow(
        &self,
        step: FirstStep<'_>,
        counted_as: &str,
        caps: FlowCaps,
    ) -> Result<(), ServiceError> {
        let flow = step.flow(self.sign_in().origin());
        let begun = self.store().begin_login_flow(flow, counted_as, step.begun_ms, caps).await;
        begun.map_err(|error| match error {
            StoreError::TooMany(_) => too_often(TooOften(5)),
            other => other.into(),
        })
    }

    /// Whether a program's second step, from this address, continues a flow that was taken.
    pub(super) fn continued(&self, flow: &LoginFlow, address: IpAddr) -> bool {
        let origin = self.sign_in().origin();
        SecondStep { origin, address, browser: None, now_ms: self.clock().now_ms() }.continues(flow)
    }
}
