//! How threads that serve share the processors with those who wake them.

/// From now on this thread, and those that it starts, do not interrupt whoever wakes them, but have
/// their turn next (`SCHED_BATCH`, sched(7)): a client that writes to many connections is stopped
/// once for all of them, and not for each. Their share of the processors stays the same. So does a
/// policy that the program was started with (chrt(1)), and what the system refuses is let be.
#[cfg(target_os = "linux")]
pub fn let_others_go_on() {
    use preempt_rt::sched::{Pid, Scheduler, SchedulerParams, get_scheduler, set_scheduler};
    let own = Pid::current_thread();
    if matches!(get_scheduler(own), Ok(Scheduler::SCHED_NORMAL)) {
        let params = SchedulerParams { priority: 0 };
        let _ = set_scheduler(own, Scheduler::SCHED_BATCH, params);
    }
}

/// Other systems have no such policy.
#[cfg(not(target_os = "linux"))]
pub fn let_others_go_on() {}
