/* For LD_PRELOAD: a folder in which writes are refused, as by a quota or a broken disk. The environment's REFUSED names
   the folder; FOLDER.errno holds the number of the error for as long as it is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int refused(int descriptor) {
    const char *folder = getenv("REFUSED");
    char name[64], path[4096];
    int number = 0;
    if (!folder) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0 || strncmp(path, folder, strlen(folder))) return 0;
    snprintf(path, sizeof path, "%s.errno", folder);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%d", &number) != 1) number = 0;
    if (file) fclose(file);
    if (number) errno = number;
    return number;
}

typedef ssize_t (*writer)(int, const void *, size_t);
typedef ssize_t (*placed)(int, const void *, size_t, off64_t);

ssize_t write(int to, const void *bytes, size_t count) {
    return refused(to) ? -1 : ((writer)dlsym(RTLD_NEXT, "write"))(to, bytes, count);
}

ssize_t pwrite(int to, const void *bytes, size_t count, off_t at) {
    return refused(to) ? -1 : ((placed)dlsym(RTLD_NEXT, "pwrite"))(to, bytes, count, at);
}

ssize_t pwrite64(int to, const void *bytes, size_t count, off64_t at) {
    return refused(to) ? -1 : ((placed)dlsym(RTLD_NEXT, "pwrite64"))(to, bytes, count, at);
}
