#pragma once
/* arch/x86/include/asm/ptrace.h: what a kprobe program is given. The names are those that BCC's PT_REGS_* want. */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
