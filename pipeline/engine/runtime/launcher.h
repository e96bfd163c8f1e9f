/* What the parts of the launcher share; see launcher.c. */
#ifndef LAUNCHER_H
#define LAUNCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SPEC_FD = 3, STATUS_FD = 4, JOIN_FD = 5 };
enum { F_INIT = 1, F_INSECURE = 2, F_HOST_NETWORK = 4, F_HANDSHAKE = 8, F_JOIN = 16, F_NODEV = 32 };
enum { M_OVERLAY = 1, M_BIND = 2, M_TMPFS = 3, M_FILE = 4 };

struct overlay { uint32_t count; const char **lowers; const char *upper, *work; };
struct mount {
    uint32_t kind, read_only, mode, uid, gid, size;
    const char *target, *source, *options;
    struct overlay overlay;
    int fd;
    bool is_dir;
};
struct spec {
    uint32_t flags, engine_pid, uid, gid, group_count, mount_count, cgroup_count;
    gid_t *groups;
    const char *hostname, *cwd, *netns, *in, *out, *err;
    const char **cgroups; /* directories of the leaf, one in each hierarchy */
    int *cgroup_fds;
    struct overlay rootfs;
    struct mount *mounts;
    char **argv, **env;
};

extern int status_fd;
extern bool has_cgroup2;

/* launcher_spec.c: reading what is asked for, telling what happened. */
void send_message(const char *text, size_t size, const int *fds, size_t count);
const char *reason(int code);
/* Report a failed set-up and end: kind E (set-up) or F (a redirect file). */
_Noreturn void fail(char kind, int code, const char *format, ...);
void *allocate(size_t count, size_t size);
void read_spec(struct spec *spec);

/* launcher_serve.c: returns in each process that is to become a launcher. */
void serve(void);

/* launcher_mounts.c: the container's file systems. */
int open_in_root(int root, const char *path, uint64_t flags, uint64_t mode);
void append(char *path, const char *name);
int reach(int root, const char *path, bool is_dir, uid_t uid, gid_t gid);
void enter_root(struct spec *spec);

#endif
