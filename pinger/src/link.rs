//! The seam between the engine and what carries frames: AF_XDP, or a simulated network in tests.

/// Why frames could not be handed to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The operating system's error number.
    pub errno: i32,
    /// How many of the frames that were queued were not sent: the last ones.
    pub unsent: usize,
}

/// Carries frames out. One at a time: [`Link::frame`], then [`Link::submit`]; then, for all that
/// were submitted, [`Link::flush`].
pub trait Link {
    /// Memory for the next frame, or `None` while all of it is on its way.
    fn frame(&mut self) -> Option<&mut [u8]>;

    /// Queues the first `len` bytes of the memory that the last [`Link::frame`] gave.
    fn submit(&mut self, len: usize);

    /// Sends all that is queued.
    ///
    /// # Errors
    ///
    /// If the network refuses: the last [`Refused::unsent`] of what was queued will never be sent,
    /// the others were.
    fn flush(&mut self) -> Result<(), Refused>;
}
