/* The old way out of a chroot: one more chroot(2) that leaves the working directory above it, and then "..", to the top
   of what the mounts are mounted on. Lists the root that it gets to. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
    DIR *root;
    struct dirent *entry;

    mkdir("/tmp/deeper", 0700);
    if (chdir("/") || chroot("/tmp/deeper"))
        return 2;
    for (int level = 0; level < 100; level++)
        if (chdir(".."))
            return 3;
    if (chroot(".") || !(root = opendir("/")))
        return 4;
    while ((entry = readdir(root)))
        if (entry->d_name[0] != '.')
            printf("%s\n", entry->d_name);
    return 0;
}
