//! The index of a world of funders: one graph that all nodes report to, one search that answers all.
//!
//! Nothing here signs, expires or federates: that is index servers' business, and they are simulated at full fidelity.

use offset_funder_sm::funder::{FoundRoutes, QueryId, RouteFailure, RouteQuery};
use offset_index_sm::answer::answer;
use offset_index_sm::graph::Graph;
use offset_index_sm::search::Workspace;
use offset_protocol::bytes::PublicKey;
use offset_protocol::index::RequestRoutes;
use offset_protocol::machine::{Duration, Instant};

use super::event::Report;

/// Lines that one search may look at: as an index server's limit.
const WORK: u64 = 2_000_000;
/// A node gives up on an index that does not answer after this long. Chosen freely: about what an index client waits.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    graph: Graph,
    workspace: Workspace,
    /// It answers nobody before this.
    pub(super) off_until: Instant,
    pub(super) asked: u64,
}

impl Index {
    pub(super) const fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(super) fn report(&mut self, node: &PublicKey, report: &Report) {
        if report.anew {
            self.graph.remove(node);
        }
        if !report.set.is_empty() || !report.removed.is_empty() {
            self.graph.update(node, &report.set, &report.removed);
        }
    }

    pub(super) fn answer(&mut self, id: QueryId, query: RouteQuery) -> Result<FoundRoutes, RouteFailure> {
        self.asked += 1;
        let RouteQuery { currency, amount, source, destination, exclude, max_fee } = query;
        let request = RequestRoutes { id: id.0, currency, amount, source, destination, exclude, max_fee };
        let routes = answer(&self.graph, &request, &mut self.workspace, WORK);
        Ok(FoundRoutes { options: routes.options.into_vec(), capped: routes.capped })
    }
}
