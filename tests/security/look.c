/* Looks at the root of every process that it sees until it can read a file there that is no business of its own.
   usage: look FILE    prints what it read, and by way of whom; "ready" once it has looked at all of them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words)
{
    char path[4096], text[256], name[256];
    for (long round = 0;; round++) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        if (!proc || count < 2)
            return 2;
        while ((entry = readdir(proc))) {
            int pid = atoi(entry->d_name), fd, size;
            if (pid <= 0)
                continue;
            snprintf(path, sizeof path, "/proc/%d/root%s", pid, words[1]);
            if ((fd = open(path, O_RDONLY)) < 0)
                continue;
            size = read(fd, text, sizeof text - 1);
            close(fd);
            if (size <= 0)
                continue;
            text[size] = 0;
            snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
            fd = open(path, O_RDONLY);
            size = fd < 0 ? 0 : read(fd, name, sizeof name - 1);
            for (int at = 0; at < size - 1; at++)
                if (!name[at])
                    name[at] = ' ';
            name[size > 0 ? size : 0] = 0;
            printf("caught %s: %s\n", name, text);
            return fflush(stdout);
        }
        closedir(proc);
        if (round == 0) {
            puts("ready");
            fflush(stdout);
        }
    }
}
