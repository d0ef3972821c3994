//! The cookie: a keyed hash that ties a payload to one probe of one flow.
//!
//! SipHash-2-4 (Aumasson and Bernstein, 2012) of the 8 bytes `flow | sequence << 20`... written
//! out for this one input length, so that the BPF verifier sees straight code.
