/* The last program of ctk in a container: waits for `start`, applies the security label and the seccomp filter, and
 * becomes the user's program. docs/decisions/0004-last-step.md says why it exists; last_step.py holds its machine code
 * (scripts/assemble writes it, tests/architecture/test_machine_code.py compiles this again and compares). With INIT
 * defined it remains as the container's first process, and its child becomes the program: init_code.py.
 *
 * No libc, no data segment, no stack beyond a few words: a flat, position-independent piece of text, followed by the
 * `struct orders` that last_step.py appends. Its file is sealed, so nothing can be written through /proc/PID/exe.
 */
typedef unsigned int u32;
typedef unsigned long u64;

struct orders {
	int fifo;         /* read one byte from it first; -1: do not wait */
	int errors;       /* the errno of a failed step goes here as 4 bytes; -1: a line on stderr instead */
	int proc;         /* a procfs directory of ours, for the label; -1: none */
	u32 label_size;
	u32 label_at;     /* offsets from the start of this structure */
	u32 attribute_at; /* where below proc the label is written */
	u32 filter_count; /* seccomp: number of BPF instructions; 0: none */
	u32 filter_at;
	u32 filter_flags;
	u32 path_at;      /* the program */
	u32 obeys;        /* while it waits, signals end it: not where a filter in force may not know rt_sigaction(2) */
};
extern const char orders_start[] __attribute__((visibility("hidden")));

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, CLOSE = 3, EXECVE = 59, PRCTL = 157, OPENAT = 257, EXIT_GROUP = 231, SECCOMP = 317,
       SIGACTION = 13 };
enum { CLONE = 56, WAIT4 = 61, KILL = 62, SETPGID = 109, IOCTL = 16, SIGPROCMASK = 14, SIGTIMEDWAIT = 128, GETPID = 39 };
static inline long call(long n, long a, long b, long c, long d)
{
	long r;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return r;
}
__asm__(".section .text.start,\"ax\"\n.globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, CLOSE = 57, EXECVE = 221, PRCTL = 167, OPENAT = 56, EXIT_GROUP = 94, SECCOMP = 277,
       SIGACTION = 134 };
enum { CLONE = 220, WAIT4 = 260, KILL = 129, SETPGID = 154, IOCTL = 29, SIGPROCMASK = 135, SIGTIMEDWAIT = 137, GETPID = 172 };
static inline long call(long n, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
__asm__(".section .text.start,\"ax\"\n.globl _start\n_start:\n\tmov x0, sp\n\tbl begin\n");
#else
#error "no system calls known for this architecture"
#endif

/* In .text, with the code: there is no data segment. */
#define TEXT(name, words) static const char name[] __attribute__((section(".text.words"))) = words
TEXT(doing, "exec ");
TEXT(no_leave, ": operation not permitted\n");
TEXT(no_file, ": no such file or directory\n");
TEXT(no_right, ": permission denied\n");
TEXT(no_format, ": exec format error\n");
TEXT(other, ": failed, errno ");

static void fail(const struct orders *o, long error, int code)
{
	u32 number = (u32)-error;
	if (o->errors >= 0) {
		call(WRITE, o->errors, (long)&number, 4, 0);
	} else {
		const char *path = (const char *)o + o->path_at;
		long size = 0;
		while (path[size])
			size++;
		call(WRITE, 2, (long)doing, sizeof doing - 1, 0);
		call(WRITE, 2, (long)path, size, 0);
		if (number == 1) { /* its file requires capabilities beyond the bounding set */
			call(WRITE, 2, (long)no_leave, sizeof no_leave - 1, 0);
		} else if (number == 2) {
			call(WRITE, 2, (long)no_file, sizeof no_file - 1, 0);
		} else if (number == 13) {
			call(WRITE, 2, (long)no_right, sizeof no_right - 1, 0);
		} else if (number == 8) {
			call(WRITE, 2, (long)no_format, sizeof no_format - 1, 0);
		} else {
			char digits[4] = { '0' + number / 100 % 10, '0' + number / 10 % 10, '0' + number % 10, '\n' };
			call(WRITE, 2, (long)other, sizeof other - 1, 0);
			call(WRITE, 2, (long)digits, 4, 0);
		}
	}
	call(EXIT_GROUP, code, 0, 0, 0);
}

static void quit(int number)
{
	call(EXIT_GROUP, 128 + number, 0, 0, 0);
}

/* The first process of a pid namespace gets only signals that it has a handler for (pid_namespaces(7)), even from the
 * engine outside that holds its pidfd. So give it handlers that end it; execve(2) resets them. */
static void obey_signals(void)
{
	/* The kernel's struct sigaction: handler, flags (SA_RESTORER), restorer, mask. */
	unsigned long action[4] = { (unsigned long)quit, 0x04000000, (unsigned long)quit, 0 };
	/* Not KILL and STOP, and not those that are ignored or stop by default: CHLD, CONT, TSTP, TTIN, TTOU, URG, WINCH. */
	const u32 left_out = 1u << 9 | 0x7fu << 17 | 1u << 28;

	for (int number = 1; number < 32; number++)
		if (!(left_out >> number & 1))
			call(SIGACTION, number, (long)action, 0, 8);
}

#ifdef INIT
TEXT(init_name, "ctk-init");

/* Remain as the container's first process, and let a child become the program: reap its orphans, forward every signal
 * to it, and end with it. Returns in the child only. docs/decisions/0009-init.md.
 */
static void supervise(void)
{
	/* A blocked signal waits for SIGTIMEDWAIT even if the kernel would drop it for a first process (signal(7)). */
	u64 all = ~0UL, before;
	long child, signal;

	call(SIGPROCMASK, 0 /* SIG_BLOCK */, (long)&all, (long)&before, 8);
	/* Before the child can look; it inherits the name until its execve(2), and is no subreaper. */
	call(PRCTL, 15 /* PR_SET_NAME */, (long)init_name, 0, 0);
	call(PRCTL, 36 /* PR_SET_CHILD_SUBREAPER */, 1, 0, 0); /* where it is not the first of a pid namespace */
	child = call(CLONE, 17 /* SIGCHLD */, 0, 0, 0);
	if (child < 0)
		call(EXIT_GROUP, 126, 0, 0, 0);
	if (child == 0) {
		/* A group of its own, in the terminal's foreground: Ctrl-C reaches it once, not a second time through us. */
		u32 own = 0;
		call(SETPGID, 0, 0, 0, 0);
		if (call(IOCTL, 0, 0x540F /* TIOCGPGRP */, (long)&own, 0) == 0) {
			own = (u32)call(GETPID, 0, 0, 0, 0);
			call(IOCTL, 0, 0x5410 /* TIOCSPGRP */, (long)&own, 0);
		}
		call(SIGPROCMASK, 2 /* SIG_SETMASK */, (long)&before, 0, 8);
		return;
	}
	for (;;) {
		signal = call(SIGTIMEDWAIT, (long)&all, 0, 0, 8);
		if (signal == 17) {
			int status;
			long ended;
			while ((ended = call(WAIT4, -1, (long)&status, 1 /* WNOHANG */, 0)) > 0)
				if (ended == child)
					call(EXIT_GROUP, status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff, 0, 0, 0);
		} else if (signal > 0) {
			call(KILL, child, signal, 0, 0);
		}
	}
}
#endif

__attribute__((used)) void begin(long *stack)
{
	const struct orders *o = (const struct orders *)orders_start;
	const char *base = orders_start;
	long argc = stack[0], r;
	char **argv = (char **)(stack + 1), **envp = argv + argc + 1;

	if (o->fifo >= 0) {
		char byte;
		if (o->obeys)
			obey_signals();
		do
			r = call(READ, o->fifo, (long)&byte, 1, 0);
		while (r == -4); /* EINTR */
		if (r != 1)
			call(EXIT_GROUP, 1, 0, 0, 0);
		call(CLOSE, o->fifo, 0, 0, 0);
	}
	if (o->label_size) {
		long fd = call(OPENAT, o->proc, (long)(base + o->attribute_at), 1 /* O_WRONLY */, 0);
		r = fd < 0 ? fd : call(WRITE, fd, (long)(base + o->label_at), o->label_size, 0);
		if (r < 0)
			fail(o, r, 126);
		call(CLOSE, fd, 0, 0, 0);
	}
	if (o->proc >= 0)
		call(CLOSE, o->proc, 0, 0, 0);
	if (o->filter_count) {
		struct { unsigned short count; const void *filter; } program = { o->filter_count, base + o->filter_at };
		r = call(SECCOMP, 1 /* SECCOMP_SET_MODE_FILTER */, o->filter_flags, (long)&program, 0);
		if (r < 0)
			fail(o, r, 126);
	}
#ifdef INIT
	supervise();
#endif
	r = call(EXECVE, (long)(base + o->path_at), (long)argv, (long)envp, 0);
	fail(o, r, r == -2 ? 127 : 126);
}
