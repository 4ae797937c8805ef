//! The signal that a process gets when its parent ends.

/// Asks for a signal at the parent's death; 0: for none.
pub(super) fn death_signal(signal: libc::c_int) {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}
