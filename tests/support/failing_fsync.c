/* Preloaded: the next fsync or fdatasync of a file whose path has $FAIL_NAME in it fails with EIO, once for each
   time that the file $FAIL_FLAG is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    char link[64], path[4096];
    const char *name = getenv("FAIL_NAME"), *flag = getenv("FAIL_FLAG");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || name == NULL || flag == NULL)
        return 0;
    path[length] = 0;
    return strstr(path, name) != NULL && unlink(flag) == 0;
}

int fsync(int fd) {
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
