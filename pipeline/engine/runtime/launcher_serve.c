/* Starts launchers: a process that is kept, and becomes another for each exec.
 *
 * That takes a third of what starting a program does, and the engine need not wait for it. Nothing can be
 * mixed up: this process reads no specification, and closes what it passes on. The new process is the
 * engine's child, as if the engine had started it; its first message is a descriptor of itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launcher.h"

#define ORDERS_FD 3
#define ORDERS_HIGH 16 /* out of the way of what is received, which gets the lowest numbers */

/* Receive the descriptors of one exec, in the order of their numbers there; 0 when the engine has gone. */
static int receive_order(int orders, int fds[JOIN_FD + 1]) {
    union { char space[CMSG_SPACE((JOIN_FD + 1) * sizeof(int))]; struct cmsghdr align; } control;
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t size;
    do size = recvmsg(orders, &message, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    struct cmsghdr *header = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header == NULL || header->cmsg_type != SCM_RIGHTS) return 0;
    size_t bytes = header->cmsg_len - CMSG_LEN(0);
    memcpy(fds, CMSG_DATA(header), bytes);
    return (int)(bytes / sizeof(int));
}

/* Give the descriptors the numbers that a launcher expects, and close all others. */
static void take_order(const int *fds, int count) {
    /* Each is above its number, and whatever has that number was moved before. */
    for (int i = 0; i < count; i++)
        if (fds[i] <= i || dup2(fds[i], i) < 0) _exit(1);
    if (syscall(SYS_close_range, (unsigned)count, ~0u, 0u) != 0) _exit(1);
    status_fd = STATUS_FD;
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self < 0) fail('E', errno, "open the launcher");
    send_message("M", 1, &self, 1);
    close(self);
}

void serve(void) {
    if (dup2(ORDERS_FD, ORDERS_HIGH) < 0) _exit(1);
    close(ORDERS_FD);
    for (;;) {
        int fds[JOIN_FD + 1], count = receive_order(ORDERS_HIGH, fds);
        if (count <= STATUS_FD) _exit(0);
        struct clone_args how = {.flags = CLONE_PARENT};
        pid_t child = (pid_t)syscall(SYS_clone3, &how, sizeof how);
        if (child == 0) {
            take_order(fds, count);
            return;
        }
        /* Without a child the status socket closes without a word, which the engine understands. */
        for (int i = 0; i < count; i++) close(fds[i]);
    }
}
