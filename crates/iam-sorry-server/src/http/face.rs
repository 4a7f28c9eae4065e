//! All of the HTTP face in one: what `iam-sorryd serve` starts and stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use iam_sorry_core::identity::Method;
use tokio::sync::watch;

use super::api;
use super::app::App;
use super::boundary::Boundary;
use super::health::{self, Health};
use super::metrics::{self, Metrics};
use super::metrics_endpoint;
use super::problem::DrawPage;
use super::server::{Server, ServerError};
use super::settings::HttpSettings;
use super::tls::Certificates;
use crate::login::source::AttemptRoute;
use crate::service::Service;

/// Bound and ready to serve.
pub struct Http {
    server: Server,
    metrics: Option<Server>,
    boundary: Arc<Boundary>,
    routes: Router,
    stop_within: Duration,
}

/// The web pages' part.
pub struct Pages {
    /// Their routes.
    pub routes: Router,
    /// Draws a problem as a page.
    pub draw_problem: DrawPage,
}

impl Http {
    /// Binds the addresses; connections queue up until [`Http::serve`].
    ///
    /// # Errors
    /// [`ServerError`], with the way out.
    pub async fn bind(
        settings: &HttpSettings,
        service: Service,
        pages: Option<Pages>,
        health: Arc<Health>,
        mut metrics: Metrics,
    ) -> Result<Self, ServerError> {
        metrics.registry().register_collector(Box::new(metrics::SinkMetrics(service.clone())));
        metrics.registry().register_collector(Box::new(metrics::NeighbourMetrics(service.clone())));
        let attempts = service.login_methods().attempts();
        let routes = api::router(App { service }).merge(health::router(health));
        Self::bind_routes(settings, routes, attempts, pages, metrics).await
    }

    /// The same with other routes than the API's; `attempts` are those of them that try to sign somebody in.
    ///
    /// # Errors
    /// [`ServerError`], with the way out.
    pub async fn bind_routes(
        settings: &HttpSettings,
        routes: Router,
        attempts: Vec<(AttemptRoute, Method)>,
        pages: Option<Pages>,
        metrics: Metrics,
    ) -> Result<Self, ServerError> {
        let server = Server::bind(settings).await?;
        let metrics_server = Server::bind_metrics(settings).await?;
        let draw_problem = pages.as_ref().map(|pages| pages.draw_problem.clone());
        let boundary = Boundary::new(settings, attempts, metrics, draw_problem);
        let routes = match pages {
            Some(pages) => routes.merge(pages.routes),
            None => routes,
        };
        Ok(Self {
            server,
            metrics: metrics_server,
            routes: boundary.around(routes),
            boundary,
            stop_within: Duration::from_secs(settings.stop_seconds.into()),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.server.address()
    }

    /// Where it serves metrics.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|server| server.address().ok())
    }

    /// For a reload on SIGHUP, where there is TLS.
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.server.certificates()
    }

    /// Serves until `stop` says true; then nothing new begins, and what is under way has `stop_seconds` to finish, also
    /// where its client went away. Whether everything did.
    pub async fn serve(self, stop: watch::Receiver<bool>) -> bool {
        let stopped = |mut stop: watch::Receiver<bool>| async move {
            // A sender that is gone means the same.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let Self { server, metrics: metrics_server, boundary, routes, stop_within } = self;
        let for_metrics = {
            let (boundary, stopped) = (Arc::clone(&boundary), stopped(stop.clone()));
            async move {
                if let Some(server) = metrics_server {
                    server.serve(metrics_endpoint::router(boundary), stopped).await;
                }
            }
        };
        tokio::join!(server.serve(routes, stopped(stop)), for_metrics);
        tokio::time::timeout(stop_within, boundary.settled()).await.is_ok()
    }
}
