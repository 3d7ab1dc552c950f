//! Who asked a server what, and was told: every request of a session that lasts is answered, once, and nothing else is.

use std::collections::BTreeMap;

use offset_protocol::codec::decode;
use offset_protocol::index::{IndexToNode, NodeToIndex};
use offset_protocol::net::{ConnId, NetCommand, NetEvent, Purpose};

/// The sessions of nodes with a server, from outside.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Those that the server admitted, with the ids that wait for an answer, and how many of each.
    open: BTreeMap<ConnId, BTreeMap<u64, u32>>,
    /// Connections of nodes that it has not admitted.
    called: Vec<ConnId>,
}

impl Sessions {
    /// Before the server hears it.
    pub(super) fn hears(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Incoming { conn, purpose: Purpose::NodeIndex, .. } => self.called.push(*conn),
            NetEvent::Incoming { .. } | NetEvent::Opened { .. } => {}
            NetEvent::Message { conn, bytes } => self.asks(*conn, bytes),
            NetEvent::Closed { conn } => self.ends(*conn),
        }
    }

    /// A message that was or was not checked elsewhere.
    pub(super) fn asks(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(waiting) = self.open.get_mut(&conn)
            && let Ok(NodeToIndex::RequestRoutes(request)) = decode(bytes, 1 << 20)
        {
            *waiting.entry(request.id).or_default() += 1;
        }
    }

    /// What the server said.
    ///
    /// # Panics
    /// If nobody asked for it.
    pub(super) fn said(&mut self, command: &NetCommand) {
        match command {
            NetCommand::Admit { conn } if self.called.contains(conn) => drop(self.open.insert(*conn, BTreeMap::new())),
            NetCommand::Close { conn } => self.ends(*conn),
            NetCommand::Send { conn, bytes } => {
                let id = match decode(bytes, 1 << 20) {
                    Ok(IndexToNode::Routes(routes)) => routes.id,
                    Ok(IndexToNode::Busy { id }) => id,
                    _ => return,
                };
                let Some(waiting) = self.open.get_mut(conn) else { return };
                let left = waiting.get_mut(&id).filter(|left| **left > 0);
                *left.unwrap_or_else(|| panic!("an answer to {id}, which nobody asked on {conn:?}")) -= 1;
            }
            _ => {}
        }
    }

    /// Nothing is on its way any more.
    ///
    /// # Panics
    /// If a request was forgotten.
    pub(super) fn assert_answered(&self) {
        for (conn, waiting) in &self.open {
            assert!(waiting.values().all(|left| *left == 0), "not answered on {conn:?}: {waiting:?}");
        }
    }

    fn ends(&mut self, conn: ConnId) {
        self.open.remove(&conn);
        self.called.retain(|called| *called != conn);
    }
}
