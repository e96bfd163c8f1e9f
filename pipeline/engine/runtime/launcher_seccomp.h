/* The system call filter of a container; see launcher_seccomp.c. */
#ifndef LAUNCHER_SECCOMP_H
#define LAUNCHER_SECCOMP_H

#include <linux/filter.h>
#include <stddef.h>

/* What one instruction set denies. `clone3` answers "no such call" so that libraries fall back to
 * `clone`, whose flags a filter can read. */
struct denied {
    const int *numbers;
    size_t count;
    int clone, clone3, personality, socket, last_known;
};

const struct denied *denied_native(void);
#ifdef __x86_64__
const struct denied *denied_i386(void);
#endif

/* Return the filter and its length in instructions; NULL when it has become too long. */
const struct sock_filter *build_filter(size_t *count);

/* Install the filter; needs CAP_SYS_ADMIN, since new privileges stay allowed. 0, or -1 with errno. */
int install_filter(void);

#endif
