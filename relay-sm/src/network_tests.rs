//! Servers and clients together in a tiny network with faults.
