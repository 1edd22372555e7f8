//! The code that a start runs is not that of a request: what it has brought in is let go of.
//!
//! The kernel maps sixteen pages of a program for each that runs, so that most of it is resident after parsing flags,
//! certificates and configuration. All of it stays in the page cache, shared by the sidecars of a node, and what is
//! needed again is mapped again without a read.

use std::{fs, ops::Range};

/// Lets go of the code of the program, once.
pub(crate) fn let_go() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else {
        return;
    };
    if let Some(Range { start, end }) = mapping(&maps, let_go as fn() as usize) {
        // SAFETY: the pages of this mapping are the file's, executable and never written to (it has no `w`, and
        // relocations are kept in others), so whatever runs in it finds the same again: madvise(2), MADV_DONTNEED.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// The mapping of proc_pid_maps(5) that holds an address, if it is code that nobody can write to.
fn mapping(maps: &str, address: usize) -> Option<Range<usize>> {
    maps.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        let range = hex(start)?..hex(end)?;
        (words.next()? == "r-xp" && range.contains(&address)).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_that_nobody_can_write_to_is_found() {
        let maps = "1000-2000 r--p 00000000 fe:00 1 /weft-proxy\n\
                    2000-5000 r-xp 00001000 fe:00 1 /weft-proxy\n\
                    5000-6000 rwxp 00004000 fe:00 1 /weft-proxy\n";
        assert_eq!(mapping(maps, 0x2000), Some(0x2000..0x5000));
        assert_eq!(mapping(maps, 0x4fff), Some(0x2000..0x5000));
        for other in [0x1000, 0x5000, 0x7000] {
            assert_eq!(mapping(maps, other), None);
        }
    }

    #[test]
    fn code_runs_on_when_it_was_let_go_of() {
        let_go();
        assert_eq!("16".parse(), Ok(16));
    }
}
