//! What every process tells of itself, by the names that Prometheus's own libraries have for it. Owns nothing
//! but these names.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::page::Page;

/// This process.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        #[cfg(target_os = "linux")]
        linux::write(&mut page)?;
        let _ = &mut page;
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt;

    use procfs::process::{self, LimitValue};
    use procfs::{WithCurrentSystemInfo, boot_time_secs, ticks_per_second};

    use super::Page;

    /// What cannot be read is left out.
    pub(super) fn write(page: &mut Page<'_>) -> fmt::Result {
        let Ok(process) = process::Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks = rounded(ticks_per_second());
            let cpu = rounded(stat.utime + stat.stime) / ticks;
            page.counter_of("process_cpu_seconds", "Time on a processor", cpu)?;
            let help = "Memory that is resident";
            page.gauge("process_resident_memory_bytes", help, stat.rss_bytes().get())?;
            page.gauge("process_virtual_memory_bytes", "Memory that is mapped", stat.vsize)?;
            if let Ok(boot) = boot_time_secs() {
                let start = rounded(boot) + rounded(stat.starttime) / ticks;
                page.gauge_of("process_start_time_seconds", "When it began, since 1970", start)?;
            }
        }
        if let Ok(open) = process.fd_count() {
            page.gauge("process_open_fds", "Descriptors that are open", open as u64)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            page.gauge("process_max_fds", "How many may be", most)?;
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)]
    fn rounded(count: u64) -> f64 {
        count as f64
    }
}
