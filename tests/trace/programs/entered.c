/*
 * Two kinds of code whose call frame information does not say all: the entry of a program that is built for indirect
 * branch tracking, and built-in functions as V8 has them, which keep frame pointers and have no such information.
 * Link it with -nostartfiles.
 */
#include "program.h"

__asm__(".pushsection .text\n"
	".globl _start\n"
	".type _start, @function\n"
	"_start:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	.cfi_undefined rip\n"
	"	xor %ebp, %ebp\n"
	"	mov %rdx, %r9\n"
	"	pop %rsi\n"
	"	mov %rsp, %rdx\n"
	"	and $-16, %rsp\n"
	"	push %rax\n"
	"	push %rsp\n"
	"	xor %r8d, %r8d\n"
	"	xor %ecx, %ecx\n"
	"	lea main(%rip), %rdi\n"
	"	call *__libc_start_main@GOTPCREL(%rip)\n"
	"	hlt\n"
	"	.cfi_endproc\n"
	".size _start, . - _start\n"
	".balign 64\n"
	".type Builtins_Enter, @function\n"
	"Builtins_Enter:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	call Builtins_Call\n"
	"	pop %rbp\n"
	"	ret\n"
	".size Builtins_Enter, . - Builtins_Enter\n"
	".balign 64\n"
	".type Builtins_Call, @function\n"
	"Builtins_Call:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	sub $64, %rsp\n"
	"	call *%rdi\n"
	"	leave\n"
	"	ret\n"
	".size Builtins_Call, . - Builtins_Call\n"
	".balign 64\n"
	".popsection\n");

void Builtins_Enter(void (*function)(void));

/* By this V8 is known where the names of its functions are stripped. */
void _ZNK2v88internal7Isolate18embedded_blob_codeEv(void)
{
}

SITE void addon(void)
{
	MUST(keep(malloc(100)));
}

SITE void runs_script(void)
{
	Builtins_Enter(addon);
	__asm__ volatile("" ::: "memory");
}

int main(void)
{
	volatile int times = 3; /* not known: the call stays one */

	stop("ready");
	for (int i = 0; i < times; i++)
		runs_script();
	stop("done");
	return 0;
}
