/* The system call filter of a container: the effect of Docker's default profile, as a list of denials.
 *
 * Denied calls fail with EPERM. A program of a foreign instruction set may call nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launcher_denied.h"
#include "launcher_seccomp.h"

#define NEW_NAMESPACES 0x7E020000u /* CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET */
#define X32_BIT 0x40000000u

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "no system call filter for this architecture"
#endif

const struct denied *denied_native(void) {
    static const struct denied table = {
        denied_numbers, sizeof denied_numbers / sizeof *denied_numbers,
        __NR_clone, __NR_clone3, __NR_personality, __NR_socket, LAST_KNOWN,
    };
    return &table;
}

static struct sock_filter program[512];
static size_t length;

static void emit(uint16_t code, uint32_t k, uint8_t yes, uint8_t no) {
    if (length < sizeof program / sizeof *program)
        program[length++] = (struct sock_filter){code, yes, no, k};
}

static void load(size_t offset) { emit(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0); }
static void answer(uint32_t action) { emit(BPF_RET | BPF_K, action, 0, 0); }

static void deny_if_equal(uint32_t value, int code) {
    emit(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(SECCOMP_RET_ERRNO | (uint32_t)code);
}

/* Argument 0 is loaded only inside such a block, which always ends with an answer. */
static size_t begin_call(int number) {
    emit(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 0); /* the jump is filled in by end_call */
    load(offsetof(struct seccomp_data, args[0]));
    return length - 2;
}

static void end_call(size_t begin) {
    answer(SECCOMP_RET_ALLOW);
    program[begin].jf = (uint8_t)(length - begin - 1);
}

static void emit_table(const struct denied *table) {
    load(offsetof(struct seccomp_data, nr));
    emit(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)table->last_known, 0, 1);
    answer(SECCOMP_RET_ERRNO | ENOSYS);
    for (size_t i = 0; i < table->count; i++) deny_if_equal((uint32_t)table->numbers[i], EPERM);
    deny_if_equal((uint32_t)table->clone3, ENOSYS);

    size_t call = begin_call(table->clone);
    emit(BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 1);
    answer(SECCOMP_RET_ERRNO | EPERM);
    end_call(call);

    call = begin_call(table->socket);
    deny_if_equal(AF_VSOCK, EPERM);
    end_call(call);

    call = begin_call(table->personality);
    static const uint32_t harmless[] = {0x0, 0x0008, 0x20000, 0x20008, 0xffffffff};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        emit(BPF_JMP | BPF_JEQ | BPF_K, harmless[i], 0, 1);
        answer(SECCOMP_RET_ALLOW);
    }
    answer(SECCOMP_RET_ERRNO | EPERM);
    program[call].jf = (uint8_t)(length - call - 1);

    answer(SECCOMP_RET_ALLOW);
}

const struct sock_filter *build_filter(size_t *count) {
    length = 0;
    load(offsetof(struct seccomp_data, arch));
#ifdef __x86_64__
    /* The jump over the native table is longer than a conditional one can be. */
    emit(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0);
    emit(BPF_JMP | BPF_JA, 0, 0, 0);
    size_t skip = length - 1;
    load(offsetof(struct seccomp_data, nr));
    emit(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
    answer(SECCOMP_RET_ERRNO | ENOSYS);
    emit_table(denied_native());
    program[skip].k = (uint32_t)(length - skip - 1);
    emit(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 1, 0);
    answer(SECCOMP_RET_ERRNO | EPERM);
    emit_table(denied_i386());
#else
    emit(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0);
    answer(SECCOMP_RET_ERRNO | EPERM);
    emit_table(denied_native());
#endif
    *count = length;
    return length < sizeof program / sizeof *program ? program : NULL;
}

int install_filter(void) {
    size_t count;
    struct sock_fprog filter = {.filter = (struct sock_filter *)build_filter(&count)};
    filter.len = (unsigned short)count;
    if (filter.filter == NULL) {
        errno = E2BIG;
        return -1;
    }
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}
