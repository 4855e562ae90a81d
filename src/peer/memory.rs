//! Connections within one process: queues in place of sockets, and their faults.
