/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The probes: what reading page tables cannot see.
 *
 *   faults   page faults of the target, counted for each window of 64 pages. From handle_mm_fault by kprobe, or, on a
 *            kernel without kprobes, from the raw tracepoint page_fault_user.
 *   taken    accessed bits that another agent (reclaim, MGLRU, DAMON, idle page tracking, clear_refs) clears under us,
 *            kept for each window as a mask. By kprobe only.
 *
 * Everything is filtered here, by the target's mm or process, and counted here; Python drains both tables once an
 * aggregation interval. What does not fit is counted as lost.
 */
#include <linux/types.h>
#include <linux/ptrace.h>
#include "pagepulse.h"

BPF_F_TABLE("array", u32, struct pp_filter, filter, 1, 1024); /* 1024 = BPF_F_MMAPABLE */
BPF_F_TABLE("array", u32, struct pp_loss, loss, 1, 1024);
BPF_TABLE("hash", u64, u64, faults, PP_FAULTS); /* window address -> faults */
BPF_TABLE("hash", u64, u64, taken, PP_TAKEN);   /* window address -> mask of pages */

#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), (void *)(from))
#define WINDOW_MASK (~((u64)PP_WINDOW_PAGES * 4096 - 1))
#define CHUNK_MASK (~((u64)PP_TABLE_PAGES * 4096 - 1))
#define ACCESSED 0x20ULL

static __always_inline void count_fault(u64 address)
{
	int zero = 0;
	u64 window = address & WINDOW_MASK, nothing = 0;
	u64 *count = faults.lookup_or_try_init(&window, &nothing);
	struct pp_loss *lost = loss.lookup(&zero);

	if (!lost)
		return;
	if (count) {
		__sync_fetch_and_add(count, 1);
		__sync_fetch_and_add(&lost->faults_kept, 1);
	} else {
		__sync_fetch_and_add(&lost->faults, 1);
	}
}

static __always_inline void keep_taken(u64 window, u64 mask)
{
	int zero = 0;
	u64 nothing = 0;
	u64 *kept = taken.lookup_or_try_init(&window, &nothing);
	struct pp_loss *lost = loss.lookup(&zero);

	/* Agents hold the page table's lock, and a window lies in one page table: no other writer at the same time. */
	if (!lost)
		return;
	if (kept) {
		*kept |= mask;
		__sync_fetch_and_add(&lost->taken_kept, 1);
	} else {
		__sync_fetch_and_add(&lost->taken, 1);
	}
}

/* Does this vm_area_struct belong to the target, and is it not we who act on it? */
static __always_inline bool is_others_work_on_target(u64 vma)
{
	int zero = 0;
	u64 mm = 0;
	struct pp_filter *f = filter.lookup(&zero);

	READ(mm, vma + VMA_MM);
	return f && mm && mm == f->mm && (u32)(bpf_get_current_pid_tgid() >> 32) != f->self;
}

/* exceptions:page_fault_user, TP_PROTO(unsigned long address, struct pt_regs *regs, unsigned long error_code) */
int on_page_fault_user(struct bpf_raw_tracepoint_args *ctx)
{
	int zero = 0;
	struct pp_filter *f = filter.lookup(&zero);

	if (f && f->tgid && (u32)(bpf_get_current_pid_tgid() >> 32) == f->tgid)
		count_fault(ctx->args[0]);
	return 0;
}

/* vm_fault_t handle_mm_fault(struct vm_area_struct *vma, unsigned long address, unsigned int flags, struct pt_regs *regs) */
int on_handle_mm_fault(struct pt_regs *ctx)
{
	int zero = 0;
	u64 mm = 0;
	struct pp_filter *f = filter.lookup(&zero);

	READ(mm, PT_REGS_PARM1(ctx) + VMA_MM);
	if (f && mm && mm == f->mm)
		count_fault(PT_REGS_PARM2(ctx));
	return 0;
}

/* int ptep_test_and_clear_young(struct vm_area_struct *vma, unsigned long addr, pte_t *ptep), and ptep_clear_flush_young */
int on_pte_clear_young(struct pt_regs *ctx)
{
	u64 pte = 0, address = PT_REGS_PARM2(ctx);

	if (!is_others_work_on_target(PT_REGS_PARM1(ctx)))
		return 0;
	READ(pte, PT_REGS_PARM3(ctx));
	if (pte & ACCESSED)
		keep_taken(address & WINDOW_MASK, 1ULL << ((address >> 12) & (PP_WINDOW_PAGES - 1)));
	return 0;
}

/* int pmdp_test_and_clear_young(struct vm_area_struct *vma, unsigned long addr, pmd_t *pmdp), and pmdp_clear_flush_young */
int on_pmd_clear_young(struct pt_regs *ctx)
{
	u64 pmd = 0, address = PT_REGS_PARM2(ctx) & CHUNK_MASK;

	if (!is_others_work_on_target(PT_REGS_PARM1(ctx)))
		return 0;
	READ(pmd, PT_REGS_PARM3(ctx));
	if (!(pmd & ACCESSED) || !(pmd & 0x80)) /* no leaf: the bit of a table says nothing of one page */
		return 0;
#pragma unroll
	for (int i = 0; i < PP_TABLE_PAGES / PP_WINDOW_PAGES; i++)
		keep_taken(address + i * PP_WINDOW_PAGES * 4096, ~0ULL);
	return 0;
}
