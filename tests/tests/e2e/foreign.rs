//! Somebody else's XDP program: two instructions that let everything pass.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use xtask::lab::Namespace;

/// Of `include/uapi/linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// `r0 = XDP_PASS; exit`, as instructions of 8 bytes.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// The beginning of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct Attach {
    prog_fd: i32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches the program to an interface; it is detached when the result is dropped.
pub(crate) fn pass_all(namespace: &Namespace, interface: &str) -> OwnedFd {
    let license = c"GPL";
    let program = call(
        BPF_PROG_LOAD,
        &Load {
            prog_type: BPF_PROG_TYPE_XDP,
            insn_cnt: PASS.len() as u32,
            insns: PASS.as_ptr().addr() as u64,
            license: license.as_ptr().addr() as u64,
        },
    );
    let name = CString::new(interface).unwrap();
    let attach = || {
        // SAFETY: a name that ends with a zero byte.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        call(
            BPF_LINK_CREATE,
            &Attach {
                prog_fd: program.as_raw_fd(),
                target_ifindex: index,
                attach_type: BPF_XDP,
                flags: 0,
            },
        )
    };
    namespace.enter(attach).unwrap()
}

fn call<A>(command: libc::c_long, attribute: &A) -> OwnedFd {
    // SAFETY: the kernel reads the attribute, and the program and license it points to, all of
    // which live during the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attribute),
            size_of::<A>(),
        )
    };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: just opened, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
