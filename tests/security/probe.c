/* probe [-32] NUMBER [ARGUMENT ...] [, NUMBER [ARGUMENT ...]] ...: raw system calls, one line each: the result, or minus
 * the errno. -32: as a 32-bit program makes them (int 0x80; x86 only). @ is the address of a byte that holds 'x'.
 * No libc: it runs in any root. */
typedef unsigned long word;
static char byte_x = 'x', line[32];

#if defined(__x86_64__)
enum { WRITE = 1, EXIT = 231 };
static long call(word n, word *a)
{
	long r;
	register word r10 __asm__("r10") = a[3];
	register word r8 __asm__("r8") = a[4];
	register word r9 __asm__("r9") = a[5];
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}
static long call32(word n, word *a)
{
	int r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"((int)n), "b"((int)a[0]), "c"((int)a[1]), "d"((int)a[2]), "S"((int)a[3])
			 : "memory", "r8", "r9", "r10", "r11");
	return r;
}
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#elif defined(__aarch64__)
enum { WRITE = 64, EXIT = 94 };
static long call(word n, word *a)
{
	register word x8 __asm__("x8") = n;
	register word x0 __asm__("x0") = a[0];
	register word x1 __asm__("x1") = a[1];
	register word x2 __asm__("x2") = a[2];
	register word x3 __asm__("x3") = a[3];
	register word x4 __asm__("x4") = a[4];
	register word x5 __asm__("x5") = a[5];
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#define call32 call
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl begin\n");
#endif

static word number(const char *s)
{
	word value = 0;
	int base = 10, negative = *s == '-';
	if (negative)
		s++;
	if (*s == '@')
		return (word)&byte_x;
	if (s[0] == '0' && s[1] == 'x') {
		base = 16;
		s += 2;
	}
	for (; *s; s++)
		value = value * base + (*s <= '9' ? *s - '0' : (*s | 32) - 'a' + 10);
	return negative ? -value : value;
}

static void say(long value)
{
	char *p = line + sizeof line;
	word rest = value < 0 ? -value : value;
	*--p = '\n';
	do
		*--p = '0' + rest % 10;
	while (rest /= 10);
	if (value < 0)
		*--p = '-';
	word a[6] = { 1, (word)p, (word)(line + sizeof line - p) };
	call(WRITE, a);
}

__attribute__((used)) void begin(long *stack)
{
	int argc = stack[0], at = 1, narrow = 0;
	char **argv = (char **)(stack + 1);
	if (argc > 1 && argv[1][0] == '-' && argv[1][1] == '3')
		narrow = 1, at = 2;
	while (at < argc) {
		word n = number(argv[at++]), a[6] = { 0 };
		for (int i = 0; at < argc && argv[at][0] != ','; at++, i++)
			a[i % 6] = number(argv[at]);
		say(narrow ? call32(n, a) : call(n, a));
		at++;
	}
	word a[6] = { 0 };
	call(EXIT, a);
}
