/* Carries out a program of system calls: a flat list of operations that program.py writes. In a container it stands in
 * place of the host's Python (docs/decisions/0022-programs.md); interpreter_code.py holds its machine code
 * (scripts/assemble writes it, tests/architecture/test_machine_code.py compiles this again and compares).
 *
 * No libc, and no data of its own. Its file is mapped as code that can't be written (this), as data that can't be
 * written or executed (the program), and beside them there is the program's memory, which begins with zeros. What a
 * program reads and writes by itself lies in those two; an operation that would leave them fails with EFAULT. (What a
 * system call reads and writes, the kernel checks.)
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
/* Anywhere in memory, whatever it is there. */
typedef long any8 __attribute__((aligned(1), may_alias));
typedef int any4 __attribute__((aligned(1), may_alias));

#define DATA 0x501000UL
#define MEMORY 0x10000000UL
enum {
	TOLD = 8,  /* place in memory of the descriptor that failures and warnings are written to; negative: none */
	FROM = 16, /* and of the number of the last operation that failed and had an exit for it */
};

struct header {
	u32 size;       /* of the data, this header included */
	u32 memory;     /* size of the memory, at least 24 */
	u32 operations; /* where they are, from the beginning of the data */
	u32 count;      /* how many */
	u32 exits;      /* where they are */
	u32 exit_count;
};

struct operation {
	u16 number;  /* of a system call, or one of ours */
	u16 kinds;   /* two bits an argument: 0 it is the value; 1, 2, 3: the value is 8, 4 (signed), 1 bytes of memory at it */
	u16 first;   /* of its exits */
	u16 exits;   /* how many */
	u32 result;  /* where in memory the 8 bytes of its result go */
	u32 unused;
	u64 arguments[6];
};

/* Where to go on after an error: the first exit that fits. Without one the program fails. */
struct exit {
	u16 error; /* an errno, or 0: any */
	u16 next;
};

enum {
	GO = 0xff00,  /* go on at a */
	IF_EQUAL,     /* if a and b are equal, at c */
	IF_LESS,      /* if a is less than b, both unsigned, at c */
	IF_ANY,       /* if a and b have a bit in common, at c */
	LABEL,        /* the result is a, a place to go on at later */
	SET,          /* the result is a */
	ADD,          /* a + b */
	SUBTRACT,     /* a - b */
	AND,          /* a & b */
	COPY,         /* c bytes from address b to address a */
	FIND,         /* the address, from a on and before b, of the first byte that is c or d; b if there is none */
	SAME,         /* 1 if the c bytes at the addresses a and b are the same, else 0 */
	DIGITS,       /* write the number a at address b, in base c (8 or 10); the result is its length (at most 22) */
	FAIL,         /* as if a system call had returned the error a */
	WARN,         /* tell of a, a number, and go on */
};
enum { EFAULT = 14 };

#if defined(__x86_64__)
enum { WRITE = 1, EXIT_GROUP = 231 };
static inline long call(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}
__asm__(".section .text.start,\"ax\"\n"
	"quit:\n\tadd $128, %edi\n\tmov $231, %eax\n\tsyscall\n"
	".balign 32\n.globl _start\n_start:\n\tand $-16, %rsp\n\tcall begin\n.text\n");
#elif defined(__aarch64__)
enum { WRITE = 64, EXIT_GROUP = 94 };
static inline long call(long n, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
__asm__(".section .text.start,\"ax\"\n"
	"quit:\n\tadd w0, w0, #128\n\tmov w8, #94\n\tsvc 0\n"
	".balign 32\n.globl _start\n_start:\n\tbl begin\n.text\n");
#else
#error "no system calls known for this architecture"
#endif
/* `quit` is the first byte of the code, so that a program can make it the handler of a signal: it ends the process as a
 * shell would report it, with 128 and the signal's number. */

static void tell(char kind, u32 at, long number)
{
	u32 words[3] = { (u8)kind, at, (u32)number };
	int fd = *(any4 *)(MEMORY + TOLD);

	if (fd >= 0)
		call(WRITE, fd, (long)words, sizeof words, 0, 0, 0);
}

/* Whether `size` bytes at `address` are the program's, to read or (in memory only) to write. */
static int ours(const struct header *h, u64 address, u64 size, int writes)
{
	if (address >= MEMORY)
		return size <= h->memory && address - MEMORY <= h->memory - size;
	return !writes && address >= DATA && size <= h->size && address - DATA <= h->size - size;
}

static u32 digits_of(u8 *to, u64 number, u64 base)
{
	u8 digits[22];
	u32 length = 0, at = 0;

	do
		digits[length++] = '0' + number % base;
	while (number /= base);
	while (length)
		to[at++] = digits[--length];
	return at;
}

__attribute__((used)) void begin(void)
{
	const struct header *h = (const struct header *)DATA;
	const struct operation *operations = (const struct operation *)(DATA + h->operations);
	const struct exit *exits = (const struct exit *)(DATA + h->exits);
	u32 at = 0, next, i;

	for (;; at = next) {
		const struct operation *o = operations + at;
		u64 v[6];
		long r = -EFAULT;

		next = at + 1;
		if (at >= h->count)
			break;
		if (o->result > h->memory - 8)
			goto failed;
		for (i = 0; i < 6; i++) {
			u32 kind = o->kinds >> 2 * i & 3;
			u64 a = o->arguments[i];
			if (kind) {
				if (a > h->memory - 8)
					goto failed;
				a += MEMORY;
				a = kind == 1 ? (u64)*(any8 *)a : kind == 2 ? (u64)*(any4 *)a : *(u8 *)a;
			}
			v[i] = a;
		}
		switch (o->number) {
		case GO:
			next = v[0];
			continue;
		case IF_EQUAL:
			if (v[0] == v[1])
				next = v[2];
			continue;
		case IF_LESS:
			if (v[0] < v[1])
				next = v[2];
			continue;
		case IF_ANY:
			if (v[0] & v[1])
				next = v[2];
			continue;
		case LABEL:
		case SET:
			r = v[0];
			goto done;
		case ADD:
			r = v[0] + v[1];
			goto done;
		case SUBTRACT:
			r = v[0] - v[1];
			goto done;
		case AND:
			r = v[0] & v[1];
			goto done;
		case COPY:
			if (!ours(h, v[0], v[2], 1) || !ours(h, v[1], v[2], 0))
				goto failed;
			for (r = 0; (u64)r < v[2]; r++)
				((volatile u8 *)v[0])[r] = ((const u8 *)v[1])[r];
			goto done;
		case FIND:
			if (v[1] < v[0] || !ours(h, v[0], v[1] - v[0], 0))
				goto failed;
			for (r = v[0]; (u64)r < v[1] && *(u8 *)r != (u8)v[2] && *(u8 *)r != (u8)v[3]; r++)
				;
			goto done;
		case SAME:
			if (!ours(h, v[0], v[2], 0) || !ours(h, v[1], v[2], 0))
				goto failed;
			for (i = 0; i < v[2] && ((u8 *)v[0])[i] == ((u8 *)v[1])[i]; i++)
				;
			r = i == v[2];
			goto done;
		case DIGITS:
			if (!ours(h, v[1], 22, 1) || (v[2] != 8 && v[2] != 10))
				goto failed;
			r = digits_of((u8 *)v[1], v[0], v[2]);
			goto done;
		case FAIL:
			r = -v[0];
			goto failed;
		case WARN:
			tell('w', at, v[0]);
			continue;
		}
		r = call(o->number, v[0], v[1], v[2], v[3], v[4], v[5]);
		if (r >= 0 || r < -4095)
			goto done;
failed:
		for (i = 0; i < o->exits && o->first + i < h->exit_count; i++) {
			const struct exit *exit = exits + o->first + i;
			if (exit->error == 0 || exit->error == -r) {
				next = exit->next;
				*(any8 *)(MEMORY + FROM) = at;
				goto done;
			}
		}
		tell('E', at, -r);
		break;
done:
		if (o->result <= h->memory - 8)
			*(any8 *)(MEMORY + o->result) = r;
	}
	call(EXIT_GROUP, 1, 0, 0, 0, 0, 0);
}
