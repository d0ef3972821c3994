//! Packet memory that user space and the kernel share, cut into frames of one size.

use std::io;
use std::os::fd::OwnedFd;

use crate::wire::mapping::Mapping;
use crate::wire::syscall::set_option;

/// A frame that is ours: neither cloned nor made up, given to the kernel and taken back whole.
#[derive(Debug)]
pub(super) struct FrameAddress(u64);

impl FrameAddress {
    /// The address as the kernel counts it; from here on the frame is the kernel's.
    pub(super) fn into_kernel(self) -> u64 {
        self.0
    }
}

/// The packet memory.
pub(super) struct Umem {
    memory: Mapping,
    frame_size: usize,
    frames: u32,
}

impl Umem {
    /// The frame sizes that the kernel takes for aligned chunks: half a page, or a page.
    const FRAME_SIZES: [usize; 2] = [2048, 4096];

    /// Maps memory for `frames` frames of at least `frame_len` bytes.
    pub(super) fn new(frames: u32, frame_len: usize) -> io::Result<Self> {
        let frame_size = Self::FRAME_SIZES
            .into_iter()
            .find(|size| *size >= frame_len)
            .ok_or_else(|| io::Error::other("a frame must fit into 4,096 bytes"))?;
        let memory = Mapping::anonymous(frames as usize * frame_size)?;
        Ok(Self {
            memory,
            frame_size,
            frames,
        })
    }

    /// Tells the kernel of the memory.
    pub(super) fn register(&self, socket: &OwnedFd) -> io::Result<()> {
        let registration = libc::xdp_umem_reg_v1 {
            addr: self.memory.start() as u64,
            len: self.memory.len() as u64,
            chunk_size: self.frame_size as u32,
            headroom: 0,
        };
        set_option(socket, libc::SOL_XDP, libc::XDP_UMEM_REG, registration)
    }

    /// All frames. To be called once, before any is given away.
    pub(super) fn frames(&self) -> Vec<FrameAddress> {
        (0..u64::from(self.frames))
            .map(|i| FrameAddress(i * self.frame_size as u64))
            .collect()
    }

    /// Takes back a frame by the address that the kernel returned on the completion ring, or that
    /// it has not taken from the TX ring; `None` if no frame has it.
    pub(super) fn reclaim(&self, address: u64) -> Option<FrameAddress> {
        (address < self.memory.len() as u64).then_some(FrameAddress(address))
    }

    /// The bytes of a frame of ours.
    pub(super) fn bytes<'a>(&'a mut self, frame: &'a mut FrameAddress) -> &'a mut [u8] {
        let offset = frame.0 as usize;
        assert!(
            offset + self.frame_size <= self.memory.len(),
            "a frame of this memory"
        );
        // SAFETY: the frame lies within the mapping, as just checked; it is ours, and borrowed
        // mutably, so neither the kernel nor anybody else reads or writes it meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start().add(offset), self.frame_size) }
    }
}
