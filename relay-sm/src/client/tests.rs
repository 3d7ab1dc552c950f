//! Scenarios of the client: one input, exactly these outputs, nothing left.
