//! How threads that serve share the processors with those who wake them.

/// Puts this thread, and those that it starts, under `SCHED_BATCH` (sched(7)): they do not interrupt
/// who wakes them, but have their turn next. A client that writes to many connections is stopped once
/// for all of them, and not for each, which lets a server answer a fifth more. Their share of the
/// processors is the same; the price is that while others compute on all processors, one answer in a
/// hundred waits for the end of a time slice, some milliseconds. A policy that the program was
/// started with (chrt(1)) stays, and what the system refuses is let be.
#[cfg(target_os = "linux")]
pub fn use_batch_policy() {
    use preempt_rt::sched::{Pid, Scheduler, SchedulerParams, get_scheduler, set_scheduler};
    let own = Pid::current_thread();
    if matches!(get_scheduler(own), Ok(Scheduler::SCHED_NORMAL)) {
        let params = SchedulerParams { priority: 0 };
        let _ = set_scheduler(own, Scheduler::SCHED_BATCH, params);
    }
}

/// Other systems have no such policy.
#[cfg(not(target_os = "linux"))]
pub fn use_batch_policy() {}
