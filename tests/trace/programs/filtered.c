/* A process that may make a handful of system calls, and is ended at any other. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "program.h"

SITE void keeps(void)
{
	for (int i = 0; i < 10; i++)
		MUST(keep(malloc(200000)));
}

#define ALLOW(call, left) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), (left), 0)

int main(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read, 6), ALLOW(SYS_write, 5), ALLOW(SYS_brk, 4), ALLOW(SYS_mmap, 3),
		ALLOW(SYS_getrandom, 2), ALLOW(SYS_exit_group, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(*filter), filter};

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	stop("ready");
	keeps();
	stop("done");
	return 0;
}
