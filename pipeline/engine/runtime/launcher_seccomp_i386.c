/* The denied system calls of 32-bit programs on x86-64, whose numbers differ. */
#ifdef __x86_64__
#include <asm/unistd_32.h>

#include "launcher_denied.h"
#include "launcher_seccomp.h"

const struct denied *denied_i386(void) {
    static const struct denied table = {
        denied_numbers, sizeof denied_numbers / sizeof *denied_numbers,
        __NR_clone, __NR_clone3, __NR_personality, __NR_socket, LAST_KNOWN,
    };
    return &table;
}
#else
typedef int nothing_to_compile_here;
#endif
