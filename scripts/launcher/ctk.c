/* The installed command `ctk` on x86_64 and aarch64: it executes `python3 -I -S -X utf8 LAUNCH SELF ARGUMENTS`, where
 * LAUNCH is share/ctk/launch.py beside its folder and SELF is this file. docs/decisions/0003-launcher.md says why it is
 * not a shell script; scripts/ctk does the same in a checkout and on other machines. code.py holds the compiled program
 * (scripts/assemble writes it; tests/architecture/test_machine_code.py compares).
 *
 * It has no libc and no data segment, and writes only to its stack. It reads only one variable, PATH, the last place to
 * look for Python.
 */
typedef unsigned int u32;
typedef unsigned long u64;

#if defined(__x86_64__)
enum { WRITE = 1, CLOSE = 3, FSTAT = 5, EXECVE = 59, EXIT_GROUP = 231, READLINKAT = 267, FACCESSAT = 269 };
enum { MODE_AT = 24 }; /* st_mode in the kernel's struct stat */
static inline long call(long n, long a, long b, long c, long d)
{
	long r;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return r;
}
__asm__(".section .text.start,\"ax\"\n.globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#elif defined(__aarch64__)
enum { WRITE = 64, CLOSE = 57, FSTAT = 80, EXECVE = 221, EXIT_GROUP = 94, READLINKAT = 78, FACCESSAT = 48 };
enum { MODE_AT = 16 };
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

enum { HERE = -100 /* AT_FDCWD */, EXECFN = 31 /* AT_EXECFN */, READABLE = 4 /* R_OK */ };
enum { LONGEST = 4096 /* PATH_MAX, including the NUL */, ROOM = LONGEST + 64 /* and a name appended to a folder */ };
enum { NO_ENTRY = 2, TOO_BIG = 7, NO_FORMAT = 8, NO_RIGHT = 13, NO_FOLDER = 20, NAME_TOO_LONG = 36, LOOP = 40 };

static long length(const char *text)
{
	long size = 0;
	while (text[size])
		size++;
	return size;
}

static char *append(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	*to = 0;
	return to;
}

static void say(const char *text)
{
	call(WRITE, 2, (long)text, length(text), 0);
}

/* The value in `NAME=value`, or 0 if the entry is for another name. */
static const char *value(const char *entry, const char *name)
{
	while (*name && *entry == *name) {
		entry++;
		name++;
	}
	return !*name && *entry == '=' ? entry + 1 : 0;
}

static char *behind_slash(char *path)
{
	char *at = path;
	for (; *path; path++)
		if (*path == '/')
			at = path + 1;
	return at;
}

/* Writes the path of this file, with links followed, to `self`; `executed` is the name that execve(2) was given. */
static void find(char *self, const char *executed)
{
	char link[LONGEST];
	long size = call(READLINKAT, HERE, (long)"/proc/self/exe", (long)self, LONGEST - 1);

	if (size > 0 && self[0] == '/') {
		self[size] = 0;
		return;
	}
	append(self, executed); /* no /proc is mounted */
	for (int followed = 0; followed < 40; followed++) {
		char *from = self;
		size = call(READLINKAT, HERE, (long)self, (long)link, LONGEST - 1);
		if (size <= 0)
			return;
		link[size] = 0;
		if (link[0] != '/')
			from = behind_slash(self);
		if (from - self + size >= LONGEST)
			return;
		append(from, link);
	}
}

/* Returns if this Python does not exist, or the caller may not run it. */
static void become(const char *python, const char **arguments, const char **environment)
{
	char number[] = "000\n";
	long error;

	arguments[0] = python; /* Python finds its virtual environment by this path */
	error = -call(EXECVE, (long)python, (long)arguments, (long)environment, 0);
	if (error == NO_ENTRY || error == NO_RIGHT || error == NO_FOLDER || error == NO_FORMAT || error == LOOP ||
	    error == NAME_TOO_LONG)
		return;
	say("ctk: start ");
	say(python);
	if (error == TOO_BIG) {
		say(": argument list too long\n");
	} else {
		number[0] += error / 100 % 10;
		number[1] += error / 10 % 10;
		number[2] += error % 10;
		say(": errno ");
		say(number);
	}
	call(EXIT_GROUP, 126, 0, 0, 0);
}

__attribute__((used)) void begin(long *stack)
{
	long argc = stack[0], variables = 0, kept = 0;
	const char **given = (const char **)(stack + 1), **environ = given + argc + 1;
	const char *executed = "", *path = 0;
	char self[LONGEST], file[ROOM], launch[ROOM];

	while (environ[variables])
		variables++;
	for (const u64 *entry = (const u64 *)(environ + variables + 1); entry[0]; entry += 2)
		if (entry[0] == EXECFN)
			executed = (const char *)entry[1];

	/* Python does not start with a folder as a standard stream; __main__ opens /dev/null for a closed one. */
	for (int fd = 0; fd < 3; fd++) {
		u32 status[36];
		if (call(FSTAT, fd, (long)status, 0, 0) == 0 && (status[MODE_AT / 4] & 0170000) == 0040000)
			call(CLOSE, fd, 0, 0, 0);
	}

	find(self, executed);
	long folder = behind_slash(self) - self;
	append(append(launch, self) - length(self + folder), "../share/ctk/launch.py");
	if (call(FACCESSAT, HERE, (long)launch, READABLE, 0) < 0) {
		say("ctk: can't read ");
		say(launch);
		say(": install ctk again; a link to the command works, a copy of it alone does not\n");
		call(EXIT_GROUP, 127, 0, 0, 0);
	}

	const char *called = argc ? given[0] : self;
	char name[length(called) + sizeof "CTK_ARGV0="];
	append(append(name, "CTK_ARGV0="), called);
	const char *environment[variables + 2];
	for (long i = 0; i < variables; i++) {
		/* Even with -I, Python (seen with 3.11 to 3.13) obeys these two, and takes its library from where they point. */
		if (value(environ[i], "PYTHONEXECUTABLE") || value(environ[i], "__PYVENV_LAUNCHER__") ||
		    value(environ[i], "CTK_ARGV0"))
			continue;
		if (!path)
			path = value(environ[i], "PATH");
		environment[kept++] = environ[i];
	}
	environment[kept++] = name;
	environment[kept] = 0;

	const char *arguments[argc + 8];
	long count = 0;
	arguments[count++] = "python3";
	arguments[count++] = "-I";
	arguments[count++] = "-S";
	arguments[count++] = "-X";
	arguments[count++] = "utf8";
	arguments[count++] = launch;
	arguments[count++] = self;
	for (long i = 1; i < argc; i++)
		arguments[count++] = given[i];
	arguments[count] = 0;

	/* Beside this file (a virtual environment), in the .venv of its checkout, the distribution's. */
	append(append(file, self) - length(self + folder), "python3");
	become(file, arguments, environment);
	append(file + folder, "../.venv/bin/python3");
	become(file, arguments, environment);
	become("/usr/bin/python3", arguments, environment);
	become("/usr/local/bin/python3", arguments, environment);
	while (path && *path) {
		char *end = file;
		/* Only absolute elements: the meaning of others depends on the caller's current folder. */
		int counts = *path == '/';
		for (; *path && *path != ':'; path++)
			if (end - file < LONGEST)
				*end++ = *path;
			else
				counts = 0;
		append(end, "/python3");
		if (counts)
			become(file, arguments, environment);
		if (*path == ':')
			path++;
	}
	say("ctk: start python3: none beside the command, in /usr/bin, /usr/local/bin or PATH; ");
	say("install Python 3.11 or newer\n");
	call(EXIT_GROUP, 127, 0, 0, 0);
}
