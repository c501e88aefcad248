/* A disk that has no locks, and takes neither long names nor some characters: preloaded into a process, it
 * answers in the C library's place. LOCK_ERROR is the number of the error that every lock gets, REFUSED the
 * characters that no name below $POOR_DISK may have. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int refuses(const char *path) {
    const char *disk = getenv("POOR_DISK"), *refused = getenv("REFUSED");
    if (!disk || !refused || !path || strncmp(path, disk, strlen(disk))) return 0;
    if (!strpbrk(path + strlen(disk), refused)) return 0;
    errno = EINVAL;
    return 1;
}

static int no_lock(void) {
    const char *number = getenv("LOCK_ERROR");
    if (!number) return 0;
    errno = atoi(number);
    return 1;
}

int flock(int fd, int kind) { return no_lock() ? -1 : REAL(flock)(fd, kind); }

#define FCNTL(name)                                                              \
    int name(int fd, int command, ...) {                                         \
        va_list list;                                                            \
        va_start(list, command);                                                 \
        void *argument = va_arg(list, void *);                                   \
        va_end(list);                                                            \
        int locks = command == F_SETLK || command == F_SETLKW || command == F_GETLK; \
        if (locks && no_lock()) return -1;                                       \
        return REAL(name)(fd, command, argument);                                \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

int mkdir(const char *path, mode_t mode) { return refuses(path) ? -1 : REAL(mkdir)(path, mode); }
int link(const char *from, const char *to) { return refuses(to) ? -1 : REAL(link)(from, to); }
int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return (flags & O_CREAT) && refuses(path) ? -1 : REAL(open64)(path, flags, mode);
}
