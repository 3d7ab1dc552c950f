//! How much a server holds and does, in numbers that an operator can change, and why the defaults fit 8 GiB.
//!
//! | what | at most | bytes each | GiB |
//! |---|---|---|---|
//! | nodes ([`ServerLimits::max_nodes`]): record, expiry, currencies, heads of lists | 3 million | 768 | 2.1 |
//! | numbers ([`ServerLimits::max_numbers`]): a node in a currency's graph | 6 million | 192 | 1.1 |
//! | entries ([`ServerLimits::max_entries`]): a line and two arcs | 24 million | 64 | 1.4 |
//! | currencies ([`ServerLimits::max_currencies`]) | 65,536 | 2,048 | 0.1 |
//! | sessions ([`ServerLimits::max_clients`]), with what is remembered of those that left, and of their signatures | 100,000 | 2,048 | 0.2 |
//!
//! | what each of two threads needs to search in a graph of all numbers, however it is asked | 6 million | 2 x 144 | 1.6 |
//!
//! That is 6.5 GiB; what is left is for lists that are copied under a snapshot, and for the buffers of connections, which have
//! a budget of their own. More threads need more. A test reckons with the sizes of the types.

#[cfg(any(test, feature = "probes"))]
use crate::graph::Graph;

/// How much a server holds and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Nodes in memory, those included that left lately.
    pub max_nodes: usize,
    /// Entries of all reports.
    pub max_entries: usize,
    /// Numbers in the graphs of all currencies: one for each node in each currency that it has an entry in, or that somebody
    /// has an entry about it in. So friends that nobody else has heard of are counted.
    pub max_numbers: usize,
    /// Currencies of all reports.
    pub max_currencies: usize,
    /// Sessions of nodes.
    pub max_clients: usize,
    /// Sessions of nodes behind one address.
    pub max_clients_each: usize,
    /// Lines of the reports of all nodes behind one address: an entry each, and one for each node.
    pub max_lines_each: usize,
    /// Lines of reports that one request for routes may look at.
    pub work: u64,
    /// Lines that its first search may look at; only a request that this is too little for is searched for again, with all of
    /// `work`.
    pub quick_work: u64,
    /// Threads that search: budgets and the number of searches that are out at once grow with them. None counts as one.
    pub workers: usize,
    /// Requests for routes that are not answered yet, of all clients.
    pub max_searches: usize,
    /// The same of one client.
    pub max_searches_each: usize,
}

impl Default for ServerLimits {
    /// Chosen freely for a machine with 8 GiB: 3 million nodes with 8 entries each, two numbers each on average, as most
    /// nodes have one currency; 100,000 sessions; a sixteenth of the sessions, and of the numbers that the
    /// lines may bring, for one address, which may be a carrier's; 2 million lines take about a fifth of a second, and 50,000, a
    /// hundred times what a usual request takes, 5 ms: so two hundred clients that ask for the costliest keep nobody waiting
    /// for longer than [`SEARCH_PATIENCE`](crate::server::searches::SEARCH_PATIENCE). Requests that wait are of
    /// up to 8 KiB, so all of them take 32 MiB at most; one client's are as many as a busy node has payments under way. One
    /// thread, unless somebody knows better.
    fn default() -> Self {
        ServerLimits {
            max_nodes: 3_000_000,
            max_entries: 24_000_000,
            max_numbers: 6_000_000,
            max_currencies: 65_536,
            max_clients: 100_000,
            max_clients_each: 100_000 / 16,
            max_lines_each: 6_000_000 / 16,
            work: 2_000_000,
            quick_work: 50_000,
            workers: 1,
            max_searches: 4_096,
            max_searches_each: 128,
        }
    }
}

impl ServerLimits {
    /// Whether the graph is within them.
    #[cfg(any(test, feature = "probes"))]
    pub(super) fn hold(&self, graph: &Graph) -> bool {
        graph.entries() <= self.max_entries
            && graph.numbers() <= self.max_numbers
            && graph.currencies() <= self.max_currencies
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::bytes::PublicKey;
    use offset_protocol::machine::Instant;
    use offset_protocol::money::Currency;

    use super::*;
    use crate::arc::Arc;
    use crate::graph::CurrencyGraph;
    use crate::server::reports::Record;
    use crate::server::{Client, Manners};
    use crate::view::{Line, Node};

    /// Leaves of a tree that grows in no order are two thirds full; and a little of the way to the element.
    const fn in_a_tree<K, V>() -> usize {
        (size_of::<K>() + size_of::<V>()) * 3 / 2 + 8
    }

    /// What an allocation takes beyond what was asked for: its head, and half of the step to the next size.
    const ALLOCATION: usize = 16;
    /// The two counters before the elements of a shared list.
    const COUNTERS: usize = 16;

    #[test]
    fn the_defaults_fit_eight_gib() {
        let limits = ServerLimits::default();
        // A report in one currency: its list of currencies has room for one.
        let currencies = size_of::<Currency>() + ALLOCATION;
        let node = in_a_tree::<PublicKey, Record>() + in_a_tree::<(Instant, PublicKey), ()>();
        let node = node + in_a_tree::<PublicKey, Vec<Currency>>() + currencies;
        assert!(node <= 672, "{node}");
        // Eight nodes share a leaf; a node with lines has three lists.
        let lists = 3 * (COUNTERS + ALLOCATION);
        assert_eq!(672 + lists, 768);
        let leaf = (COUNTERS + ALLOCATION + size_of::<usize>() * 2) / 8;
        let number = in_a_tree::<PublicKey, u32>() + size_of::<Node>() + leaf + size_of::<u32>();
        assert!(number <= 192, "{number}");
        // Only nodes that report have lists, and there are at most as many as nodes.
        let entry = size_of::<Line>() + 2 * size_of::<Arc>();
        assert_eq!(entry, 64);
        let currency = in_a_tree::<Currency, CurrencyGraph>() + 11 * (36 + 8) + 8 * size_of::<Node>() + 20 * ALLOCATION;
        assert!(currency <= 2_048, "{currency}");
        let client = in_a_tree::<PublicKey, Client>() + in_a_tree::<PublicKey, Manners>();
        assert!(client <= 1_024, "{client}");
        let search = crate::fronts::BYTES_A_NODE * 2 + crate::backward::BYTES_A_NODE;
        assert!(search <= 144, "{search}");
        let all = limits.max_nodes * (672 + lists)
            + limits.max_numbers * (192 + 2 * 144)
            + limits.max_entries * entry
            + limits.max_currencies * 2_048
            + limits.max_clients * 2_048;
        assert!(all < (7 << 30), "{} MiB", all >> 20);
    }
}
