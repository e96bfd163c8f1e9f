/* Reads the specification of a run, and reports to the engine. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher.h"

#define MAGIC 0x324e4c50u

int status_fd = -1;
bool has_cgroup2;

/* ---- reporting ------------------------------------------------------------------------------- */

void send_message(const char *text, size_t size, const int *fds, size_t count) {
    union { char space[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } control;
    struct iovec part = {(void *)text, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    /* The engine may be gone; then there is nobody to tell, and the lifeline ends this process. */
    if (sendmsg(status_fd, &message, MSG_NOSIGNAL) < 0) return;
}

const char *reason(int code) {
    static char text[128];
    snprintf(text, sizeof text, "%s", strerror(code));
    text[0] = (char)tolower((unsigned char)text[0]);
    return text;
}

_Noreturn void fail(char kind, int code, const char *format, ...) {
    char text[PATH_MAX + 512];
    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(text + 1, sizeof text - 1, format, arguments);
    va_end(arguments);
    text[0] = kind;
    size_t size = 1 + (used < 0 ? 0 : (size_t)used);
    if (size >= sizeof text) size = sizeof text - 1;
    if (code != 0) size += (size_t)snprintf(text + size, sizeof text - size, ": %s", reason(code));
    if (size >= sizeof text) size = sizeof text - 1;
    send_message(text, size, NULL, 0);
    _exit(1);
}

/* ---- reading the specification ---------------------------------------------------------------- */

static const char *cursor, *limit;

void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (memory == NULL) fail('E', ENOMEM, "allocate");
    return memory;
}

static uint32_t read_number(void) {
    uint32_t value;
    if ((size_t)(limit - cursor) < sizeof value) fail('E', 0, "the specification is cut short");
    memcpy(&value, cursor, sizeof value);
    cursor += sizeof value;
    return value;
}

static const char *read_bytes(uint32_t *size) {
    *size = read_number();
    const char *start = cursor;
    if ((size_t)(limit - cursor) <= *size || start[*size] != 0)
        fail('E', 0, "the specification is cut short");
    cursor += (size_t)*size + 1;
    return start;
}

static const char *read_text(void) { uint32_t size; return read_bytes(&size); }

/* Each element takes at least four bytes, so a count can be checked before memory is asked for. */
static uint32_t read_count(void) {
    uint32_t count = read_number();
    if (count > (size_t)(limit - cursor) / sizeof(uint32_t)) fail('E', 0, "the specification is damaged");
    return count;
}

static char **read_texts(uint32_t *count) {
    *count = read_count();
    char **texts = allocate((size_t)*count + 1, sizeof *texts);
    for (uint32_t i = 0; i < *count; i++) texts[i] = (char *)read_text();
    return texts;
}

static void read_overlay(struct overlay *overlay) {
    overlay->lowers = (const char **)read_texts(&overlay->count);
    if (overlay->count == 0) fail('E', 0, "the specification names no layer");
    overlay->upper = read_text();
    overlay->work = read_text();
}

static void read_mount(struct mount *mount) {
    mount->kind = read_number();
    mount->target = read_text();
    mount->read_only = read_number();
    if (mount->kind == M_OVERLAY) {
        mount->source = read_text();
        read_overlay(&mount->overlay);
    } else if (mount->kind == M_BIND) {
        mount->source = read_text();
    } else if (mount->kind == M_TMPFS) {
        mount->mode = read_number();
        mount->options = read_text();
    } else if (mount->kind == M_FILE) {
        mount->mode = read_number();
        mount->uid = read_number();
        mount->gid = read_number();
        mount->source = read_bytes(&mount->size);
    } else {
        fail('E', 0, "the specification names an unknown mount");
    }
}

void read_spec(struct spec *spec) {
    struct stat file;
    uint32_t count;
    if (fstat(SPEC_FD, &file) != 0) fail('E', errno, "read the specification");
    cursor = mmap(NULL, (size_t)file.st_size + 1, PROT_READ, MAP_PRIVATE, SPEC_FD, 0);
    if (cursor == MAP_FAILED) fail('E', errno, "read the specification");
    limit = cursor + file.st_size;
    close(SPEC_FD);
    if (read_number() != MAGIC) fail('E', 0, "the launcher is of another version");
    spec->flags = read_number();
    spec->engine_pid = read_number();
    spec->uid = read_number();
    spec->gid = read_number();
    spec->group_count = read_count();
    spec->groups = allocate(spec->group_count, sizeof *spec->groups);
    for (uint32_t i = 0; i < spec->group_count; i++) spec->groups[i] = read_number();
    spec->hostname = read_text();
    spec->cwd = read_text();
    spec->netns = read_text();
    spec->in = read_text();
    spec->out = read_text();
    spec->err = read_text();
    spec->cgroups = (const char **)read_texts(&spec->cgroup_count);
    spec->cgroup_fds = allocate(spec->cgroup_count, sizeof *spec->cgroup_fds);
    read_overlay(&spec->rootfs);
    spec->mount_count = read_count();
    spec->mounts = allocate(spec->mount_count, sizeof *spec->mounts);
    for (uint32_t i = 0; i < spec->mount_count; i++) read_mount(&spec->mounts[i]);
    spec->argv = read_texts(&count);
    if (count == 0) fail('E', 0, "no command was given");
    spec->env = read_texts(&count);
    if (cursor != limit) fail('E', 0, "the specification goes on after its end");
}
