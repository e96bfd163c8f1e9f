/* Runs one command in fresh namespaces over an overlay file system, then reports how it ended.
 *
 * Descriptors on entry: 0-2 the command's stdio, 3 a memory file with the specification (written by
 * runtime/wire.py; integers are 32 bit little-endian, texts are a length, the bytes and a zero), 4 a
 * SOCK_SEQPACKET socket for messages, 5 the container to join, if any.
 *
 * Processes: the monitor (host namespaces; dies with the engine and takes the container with it) and
 * its child, the first process of the container: the init, or the command itself. The mounts exist
 * only in the child's mount namespace, so nothing has to be unmounted, however it ends.
 *
 * Paths inside the container are resolved by openat2 with RESOLVE_IN_ROOT: an image's links cannot
 * lead out of it. Called as `launcher init COMMAND...` it is only the init, for an OCI runtime. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher_seccomp.h"

enum { SPEC_FD = 3, STATUS_FD = 4, JOIN_FD = 5 };
enum { F_INIT = 1, F_INSECURE = 2, F_HOST_NETWORK = 4, F_HANDSHAKE = 8, F_JOIN = 16 };
enum { M_OVERLAY = 1, M_BIND = 2, M_TMPFS = 3, M_FILE = 4 };
#define MAGIC 0x314e4c50u
#define MNT_DETACH 2
#define STAGING "/sys" /* covered in the child's own mount namespace only */

/* CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD
 * AUDIT_WRITE SETFCAP */
static const int kept_capabilities[] = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31};

struct overlay { uint32_t count; const char **lowers; const char *upper, *work; };
struct mount {
    uint32_t kind, read_only, mode, uid, gid, size;
    const char *target, *source, *options;
    struct overlay overlay;
    int fd;
    bool is_dir;
};
struct spec {
    uint32_t flags, engine_pid, uid, gid, group_count, mount_count;
    gid_t *groups;
    const char *hostname, *cwd, *netns, *in, *out, *err;
    struct overlay rootfs;
    struct mount *mounts;
    char **argv, **env;
};

static int status_fd = -1;
static bool has_cgroup2;

/* ---- reporting ------------------------------------------------------------------------------- */

static void send_message(const char *text, size_t size, const int *fds, size_t count) {
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

static const char *reason(int code) {
    static char text[128];
    snprintf(text, sizeof text, "%s", strerror(code));
    text[0] = (char)tolower((unsigned char)text[0]);
    return text;
}

/* Report a failed set-up and end: kind E (set-up) or F (a redirect file). */
static _Noreturn void fail(char kind, int code, const char *format, ...) {
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

static void *allocate(size_t count, size_t size) {
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

static char **read_texts(void) {
    uint32_t count = read_count();
    char **texts = allocate((size_t)count + 1, sizeof *texts);
    for (uint32_t i = 0; i < count; i++) texts[i] = (char *)read_text();
    return texts;
}

static void read_overlay(struct overlay *overlay) {
    overlay->count = read_count();
    overlay->lowers = allocate(overlay->count, sizeof *overlay->lowers);
    for (uint32_t i = 0; i < overlay->count; i++) overlay->lowers[i] = read_text();
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

static void read_spec(struct spec *spec) {
    struct stat file;
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
    read_overlay(&spec->rootfs);
    spec->mount_count = read_count();
    spec->mounts = allocate(spec->mount_count, sizeof *spec->mounts);
    for (uint32_t i = 0; i < spec->mount_count; i++) read_mount(&spec->mounts[i]);
    spec->argv = read_texts();
    spec->env = read_texts();
    if (spec->argv[0] == NULL) fail('E', 0, "no command was given");
}

/* ---- paths inside the container --------------------------------------------------------------- */

static int open_in_root(int root, const char *path, uint64_t flags, uint64_t mode) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    for (int attempt = 0;; attempt++) {
        long fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
        /* EAGAIN: somebody renamed directories meanwhile, so "inside" could not be proved. */
        if (fd >= 0 || errno != EAGAIN || attempt == 100) return (int)fd;
    }
}

/* Append `name` to `path`, which has room for PATH_MAX bytes. */
static void append(char *path, const char *name) {
    size_t used = strlen(path), more = strlen(name);
    if (used + more + 2 > PATH_MAX) fail('E', ENAMETOOLONG, "mount at `%.64s...`", path);
    path[used] = '/';
    memcpy(path + used + 1, name, more + 1);
}

/* Make `name`, owned by uid and gid, in the directory `parent` of the container. */
static void make_entry(int root, const char *parent, const char *name, bool is_dir, uid_t uid, gid_t gid) {
    int fd = open_in_root(root, parent, O_PATH | O_DIRECTORY, 0);
    if (fd < 0) fail('E', errno, "make `%s/%s`", parent, name);
    int answer = is_dir ? mkdirat(fd, name, 0755) : mknodat(fd, name, S_IFREG | 0644, 0);
    if (answer != 0 && errno != EEXIST) fail('E', errno, "make `%s/%s`", parent, name);
    if (answer == 0 && (uid != 0 || gid != 0) && fchownat(fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
        fail('E', errno, "give `%s/%s` to its user", parent, name);
    close(fd);
}

/* Return an O_PATH descriptor of `path` in the container; what is missing of it is made, also behind
 * links that lead nowhere yet. */
static int reach(int root, const char *path, bool is_dir, uid_t uid, gid_t gid) {
    int fd = open_in_root(root, path, O_PATH, 0);
    if (fd >= 0) return fd;
    if (errno != ENOENT) fail('E', errno, "open `%s` in the container", path);
    char done[PATH_MAX] = "", rest[PATH_MAX] = "", next[PATH_MAX], link[PATH_MAX];
    append(rest, path);
    for (int links = 0;;) {
        char *name = rest + strspn(rest, "/");
        if (*name == 0) break;
        char *after = name + strcspn(name, "/");
        bool last = after[strspn(after, "/")] == 0;
        if (*after) *after++ = 0;
        memmove(next, after, strlen(after) + 1);
        if (strcmp(name, "..") == 0) {
            char *slash = strrchr(done, '/');
            if (slash) *slash = 0;
        } else if (strcmp(name, ".") != 0) {
            char parent[PATH_MAX];
            memcpy(parent, done, sizeof parent);
            append(done, name);
            int found = open_in_root(root, done, O_PATH | O_NOFOLLOW, 0);
            struct stat entry;
            if (found < 0 && errno != ENOENT) fail('E', errno, "open `%s` in the container", done);
            if (found < 0) {
                make_entry(root, parent, name, is_dir || !last, uid, gid);
            } else if (fstat(found, &entry) == 0 && S_ISLNK(entry.st_mode)) {
                ssize_t size = readlinkat(found, "", link, sizeof link - 1);
                if (size < 0 || ++links > 40) fail('E', ELOOP, "open `%s` in the container", path);
                link[size] = 0;
                if (link[0] == '/') done[0] = 0;
                else memcpy(done, parent, sizeof done);
                append(link, next);
                memcpy(next, link, sizeof next);
            }
            if (found >= 0) close(found);
        }
        memcpy(rest, next, sizeof rest);
    }
    fd = open_in_root(root, done, O_PATH, 0);
    if (fd < 0) fail('E', errno, "open `%s` in the container", path);
    return fd;
}

/* ---- making mounts; each function returns the descriptor of a mount that is attached nowhere ---- */

static int clone_tree(int fd, const char *path) {
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | (*path ? 0 : AT_EMPTY_PATH);
    return (int)syscall(SYS_open_tree, fd, path, flags);
}

static int set_attributes(int mount, uint64_t attributes) {
    struct mount_attr change = {.attr_set = attributes};
    return (int)syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &change, sizeof change);
}

static int attach(int mount, int target_fd, const char *target) {
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*target ? 0 : MOVE_MOUNT_T_EMPTY_PATH);
    return (int)syscall(SYS_move_mount, mount, "", target_fd, target, flags);
}

static int set_option(int context, const char *name, const char *value) {
    return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, name, value, 0);
}

/* `options` are "name=value" texts, separated by commas. */
static int new_mount(const char *kind, const char *options, uint64_t attributes) {
    char text[256];
    int context = (int)syscall(SYS_fsopen, kind, FSOPEN_CLOEXEC);
    if (context < 0) fail('E', errno, "make a `%s`", kind);
    snprintf(text, sizeof text, "%s", options);
    for (char *save, *part = strtok_r(text, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        char *value = strchr(part, '=');
        if (value) *value++ = 0;
        int answer = value ? set_option(context, part, value)
                           : (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, part, NULL, 0);
        if (answer != 0) fail('E', errno, "make a `%s` with option `%s`", kind, part);
    }
    if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0)
        fail('E', errno, "make a `%s`", kind);
    int mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
    if (mount < 0) fail('E', errno, "make a `%s`", kind);
    close(context);
    return mount;
}

struct short_name { char text[32]; int fd; };

/* A name of a directory that fits into any option and holds no separator. */
static struct short_name shorten(const char *path) {
    struct short_name name = {.fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (name.fd < 0) fail('E', errno, "open layer `%s`", path);
    snprintf(name.text, sizeof name.text, "/proc/self/fd/%d", name.fd);
    return name;
}

static const char *const overlay_options[][2] = {
    {"redirect_dir", "off"}, {"metacopy", "off"}, {"index", "off"}, {"xino", "off"}};

/* For kernels before 6.7, which take all layers in one page of text. */
static int old_overlay(const struct short_name *names, const struct overlay *overlay, size_t layers) {
    char page[4096];
    size_t used = (size_t)snprintf(page, sizeof page, "redirect_dir=off,metacopy=off,index=off,xino=off,");
    if (*overlay->upper)
        used += (size_t)snprintf(page + used, sizeof page - used, "volatile,upperdir=%s,workdir=%s,",
                                 names[layers].text, names[layers + 1].text);
    for (size_t i = 0; i < layers && used < sizeof page; i++)
        used += (size_t)snprintf(page + used, sizeof page - used, "%s%s", i ? ":" : "lowerdir=", names[i].text);
    if (used >= sizeof page) fail('E', E2BIG, "mount %zu layers", layers);
    if (syscall(SYS_mount, "overlay", STAGING, "overlay", 0, page) != 0) fail('E', errno, "mount an overlay");
    int mount = clone_tree(AT_FDCWD, STAGING);
    if (mount < 0 || syscall(SYS_umount2, STAGING, MNT_DETACH) != 0) fail('E', errno, "mount an overlay");
    return mount;
}

static int new_overlay(const struct overlay *overlay) {
    size_t layers = overlay->count;
    if (layers == 1 && !*overlay->upper) {
        int mount = clone_tree(AT_FDCWD, overlay->lowers[0]);
        if (mount < 0 || set_attributes(mount, MOUNT_ATTR_RDONLY) != 0)
            fail('E', errno, "mount layer `%s`", overlay->lowers[0]);
        return mount;
    }
    struct short_name *names = allocate(layers + 2, sizeof *names);
    for (size_t i = 0; i < layers; i++) names[i] = shorten(overlay->lowers[i]);
    size_t count = layers;
    if (*overlay->upper) {
        names[count++] = shorten(overlay->upper);
        names[count++] = shorten(overlay->work);
    }
    int mount, context = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    if (context < 0) fail('E', errno, "make an overlay");
    bool in_steps = true;
    for (size_t i = 0; i < layers && in_steps; i++) {
        if (set_option(context, "lowerdir+", names[i].text) == 0) continue;
        if (i > 0 || errno != EINVAL) fail('E', errno, "add layer `%s`", overlay->lowers[i]);
        in_steps = false;
    }
    if (in_steps) {
        for (size_t i = 0; i < sizeof overlay_options / sizeof *overlay_options; i++)
            if (set_option(context, overlay_options[i][0], overlay_options[i][1]) != 0)
                fail('E', errno, "set overlay option `%s`", overlay_options[i][0]);
        if (*overlay->upper && (set_option(context, "upperdir", names[layers].text) != 0 ||
                                set_option(context, "workdir", names[layers + 1].text) != 0 ||
                                syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "volatile", NULL, 0) != 0))
            fail('E', errno, "add layer `%s`", overlay->upper);
        if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0)
            fail('E', errno, "mount an overlay of %zu layers", layers);
        mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, *overlay->upper ? 0 : MOUNT_ATTR_RDONLY);
        if (mount < 0) fail('E', errno, "mount an overlay");
    } else {
        mount = old_overlay(names, overlay, layers);
    }
    close(context);
    for (size_t i = 0; i < count; i++) close(names[i].fd);
    free(names);
    return mount;
}

/* The part of a tree at `path` inside it; the rest of the tree stays out of reach. */
static int part_of(int tree, const char *path) {
    if (path[strspn(path, "/")] == 0) return tree;
    if (attach(tree, AT_FDCWD, STAGING) != 0) fail('E', errno, "attach a tree");
    int root = open(STAGING, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int inside = open_in_root(root, path, O_PATH, 0);
    if (inside < 0) fail('E', errno, "mount `%s` of a tree", path);
    int mount = clone_tree(inside, "");
    if (mount < 0) fail('E', errno, "mount `%s` of a tree", path);
    close(inside);
    close(root);
    close(tree);
    if (syscall(SYS_umount2, STAGING, MNT_DETACH) != 0) fail('E', errno, "detach a tree");
    return mount;
}

/* A file that exists in memory only. */
static int new_file(const struct mount *wanted) {
    int tree = new_mount("tmpfs", "mode=700", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    int fd = openat(tree, "file", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) fail('E', errno, "make the file at `%s`", wanted->target);
    for (uint32_t done = 0; done < wanted->size;) {
        ssize_t written = write(fd, wanted->source + done, wanted->size - done);
        if (written < 0) fail('E', errno, "write the file at `%s`", wanted->target);
        done += (uint32_t)written;
    }
    if (fchown(fd, wanted->uid, wanted->gid) != 0 || fchmod(fd, wanted->mode) != 0)
        fail('E', errno, "give the file at `%s` to its user", wanted->target);
    close(fd);
    return part_of(tree, "file");
}

static void prepare(struct mount *mount) {
    if (mount->kind == M_OVERLAY) mount->fd = part_of(new_overlay(&mount->overlay), mount->source);
    else if (mount->kind == M_BIND) mount->fd = clone_tree(AT_FDCWD, mount->source);
    else if (mount->kind == M_TMPFS) mount->fd = new_mount("tmpfs", mount->options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    else mount->fd = new_file(mount);
    if (mount->fd < 0) fail('E', errno, "mount `%s`", mount->source);
    struct stat entry;
    if (fstat(mount->fd, &entry) != 0) fail('E', errno, "mount at `%s`", mount->target);
    mount->is_dir = S_ISDIR(entry.st_mode);
    if (mount->kind == M_FILE || mount->read_only)
        if (set_attributes(mount->fd, MOUNT_ATTR_RDONLY) != 0)
            fail('E', errno, "make the mount at `%s` read-only", mount->target);
}

static void attach_at(int root, int mount, const char *target, bool is_dir) {
    int fd = reach(root, target, is_dir, 0, 0);
    if (attach(mount, fd, "") != 0) fail('E', errno, "mount at `%s`", target);
    close(fd);
    close(mount);
}

/* ---- the container's own file systems ---------------------------------------------------------- */

static void make_devices(int root, bool insecure) {
    static const struct { const char *name; unsigned major, minor; } nodes[] = {
        {"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
        {"kmsg", 1, 11}, {"cuse", 10, 203}, {"fuse", 10, 229}, {"kvm", 10, 232}, {"loop-control", 10, 237}};
    static const char *const links[][2] = {{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"},
        {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}};
    int dev = open_in_root(root, "dev", O_PATH | O_DIRECTORY, 0);
    if (dev < 0) fail('E', errno, "open `/dev` in the container");
    size_t count = insecure ? sizeof nodes / sizeof *nodes : 6;
    for (size_t i = 0; i < count; i++)
        if (mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) != 0)
            fail('E', errno, "make device `%s`", nodes[i].name);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlinkat(links[i][0], dev, links[i][1]) != 0) fail('E', errno, "link `/dev/%s`", links[i][1]);
    if (insecure) {
        char name[16];
        for (unsigned i = 0; i < 8; i++) {
            snprintf(name, sizeof name, "loop%u", i);
            if (mknodat(dev, name, S_IFBLK | 0660, makedev(7, i)) != 0) fail('E', errno, "make device `%s`", name);
        }
        if (mkdirat(dev, "net", 0755) != 0 || mknodat(dev, "net/tun", S_IFCHR | 0666, makedev(10, 200)) != 0)
            fail('E', errno, "make device `net/tun`");
    }
    close(dev);
}

static void mount_system(int root, const struct spec *spec) {
    const uint64_t plain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    bool insecure = spec->flags & F_INSECURE;
    attach_at(root, new_mount("proc", "", plain), "/proc", true);
    attach_at(root, new_mount("tmpfs", "mode=755,size=65536k", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME), "/dev", true);
    make_devices(root, insecure);
    attach_at(root, new_mount("devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC), "/dev/pts", true);
    attach_at(root, new_mount("tmpfs", "mode=1777,size=65536k", plain), "/dev/shm", true);
    attach_at(root, new_mount("mqueue", "", plain), "/dev/mqueue", true);
    attach_at(root, new_mount("sysfs", "", plain | (insecure ? 0 : MOUNT_ATTR_RDONLY)), "/sys", true);
    int groups = open_in_root(root, "sys/fs/cgroup", O_PATH | O_DIRECTORY, 0);
    if (groups >= 0 && (spec->flags & F_HOST_NETWORK) == 0) {
        if (has_cgroup2)
            attach_at(root, new_mount("cgroup2", "", plain | (insecure ? 0 : MOUNT_ATTR_RDONLY)), "/sys/fs/cgroup", true);
    }
    if (groups >= 0) close(groups);
}

static void hide(int root) {
    static const char *const masked[] = {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
        "/sys/firmware", "/sys/devices/virtual/powercap"};
    static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    int null = open_in_root(root, "dev/null", O_PATH, 0);
    int nothing = -1;
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
        int target = open_in_root(root, masked[i], O_PATH, 0);
        struct stat entry;
        if (target < 0) continue; /* this kernel does not have it */
        if (fstat(target, &entry) != 0) fail('E', errno, "hide `%s`", masked[i]);
        int cover = -1;
        if (!S_ISDIR(entry.st_mode)) cover = clone_tree(null, "");
        else if (nothing < 0) cover = nothing = new_mount("tmpfs", "mode=755", MOUNT_ATTR_RDONLY);
        else cover = clone_tree(nothing, "");
        if (cover < 0 || attach(cover, target, "") != 0) fail('E', errno, "hide `%s`", masked[i]);
        if (cover != nothing) close(cover);
        close(target);
    }
    for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
        int target = open_in_root(root, read_only[i], O_PATH, 0);
        if (target < 0) continue;
        int cover = clone_tree(target, "");
        if (cover < 0 || set_attributes(cover, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC) != 0 ||
            attach(cover, target, "") != 0)
            fail('E', errno, "protect `%s`", read_only[i]);
        close(cover);
        close(target);
    }
    if (nothing >= 0) close(nothing);
    close(null);
}

/* Leave the host's file systems for the container's. */
static void enter_root(struct spec *spec) {
    if (syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail('E', errno, "make mounts private");
    int tree = new_overlay(&spec->rootfs);
    for (uint32_t i = 0; i < spec->mount_count; i++) prepare(&spec->mounts[i]);
    if (attach(tree, AT_FDCWD, STAGING) != 0) fail('E', errno, "attach the root");
    close(tree);
    int root = open(STAGING, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fchdir(root) != 0) fail('E', errno, "enter the root");
    mount_system(root, spec);
    for (uint32_t i = 0; i < spec->mount_count; i++)
        attach_at(root, spec->mounts[i].fd, spec->mounts[i].target, spec->mounts[i].is_dir);
    if ((spec->flags & F_INSECURE) == 0) hide(root);
    if (syscall(SYS_pivot_root, ".", ".") != 0 || syscall(SYS_umount2, ".", MNT_DETACH) != 0 || chdir("/") != 0)
        fail('E', errno, "change the root");
    close(root);
}

static void raise_loopback(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) != 0) fail('E', errno, "bring loopback up");
    request.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &request) != 0) fail('E', errno, "bring loopback up");
    close(fd);
}

/* ---- privileges -------------------------------------------------------------------------------- */

static void drop_privileges(const struct spec *spec) {
    bool insecure = spec->flags & F_INSECURE;
    uint64_t kept = insecure ? ~0ull : 0;
    for (size_t i = 0; i < sizeof kept_capabilities / sizeof *kept_capabilities; i++)
        kept |= 1ull << kept_capabilities[i];
    for (int cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if ((kept >> cap & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
            fail('E', errno, "drop capability %d", cap);
        if (insecure && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 0) kept &= ~(1ull << cap);
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) fail('E', errno, "clear ambient capabilities");
    if (setgroups(spec->group_count, spec->groups) != 0) fail('E', errno, "set groups");
    if (setresgid(spec->gid, spec->gid, spec->gid) != 0) fail('E', errno, "become group %u", spec->gid);
    /* Before the privilege to do so is gone; the calls below are ones that the filter allows. */
    if (!insecure && install_filter() != 0) fail('E', errno, "install the system call filter");
    if (setresuid(spec->uid, spec->uid, spec->uid) != 0) fail('E', errno, "become user %u", spec->uid);
    if (spec->uid != 0) return; /* the kernel has taken every capability */
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) != 0) fail('E', errno, "read capabilities");
    for (int half = 0; half < 2; half++) {
        data[half].permitted &= (uint32_t)(kept >> 32 * half);
        data[half].effective = data[half].permitted;
        data[half].inheritable = 0;
    }
    if (syscall(SYS_capset, &header, data) != 0) fail('E', errno, "set capabilities");
}

/* ---- the command ------------------------------------------------------------------------------- */

static _Noreturn void refuse(const char *format, ...) {
    char text[PATH_MAX + 256];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size >= (int)sizeof text) size = sizeof text - 1;
    if (size > 0 && write(2, text, (size_t)size) < 0) _exit(1);
    _exit(1);
}

static bool is_executable(const char *path) {
    struct stat entry;
    if (stat(path, &entry) != 0) return false;
    if (S_ISDIR(entry.st_mode) || (entry.st_mode & 0111) == 0) {
        errno = EACCES;
        return false;
    }
    return true;
}

/* Replace this process by the command; a command that cannot be found or started ends with 1. */
static _Noreturn void run_command(char **argv, char **env) {
    char path[PATH_MAX];
    const char *name = argv[0];
    if (strchr(name, '/') != NULL) {
        if (!is_executable(name))
            errno == EACCES ? refuse("exec: \"%s\": permission denied\n", name)
                            : refuse("exec: \"%s\": stat %s: %s\n", name, name, reason(errno));
        snprintf(path, sizeof path, "%s", name);
    } else {
        const char *search = "";
        for (char **entry = env; *entry; entry++)
            if (strncmp(*entry, "PATH=", 5) == 0) search = *entry + 5;
        bool found = false;
        for (const char *part = search; *search && *name && !found; part++) {
            int size = (int)strcspn(part, ":");
            int used = snprintf(path, sizeof path, "%.*s%s%s", size, part, size ? "/" : "./", name);
            found = used < (int)sizeof path && is_executable(path);
            part += size;
            if (*part == 0) break;
        }
        if (!found) refuse("exec: \"%s\": executable file not found in $PATH\n", name);
    }
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(path, argv, env);
    refuse("fork/exec %s: %s\n", path, reason(errno));
}

static int code_of(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

/* Start the command in a session of its own, pass signals on to it, reap what is left to us. */
static _Noreturn void be_init(char **argv, char **env) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    pid_t child = fork();
    if (child < 0) refuse("fork: %s\n", reason(errno));
    if (child == 0) {
        setsid();
        run_command(argv, env);
    }
    for (int fd = 0; fd < 3; fd++) close(fd); /* or readers would wait for us, not for the command */
    for (;;) {
        siginfo_t info;
        int number = sigwaitinfo(&all, &info);
        if (number < 0) continue;
        if (number == SIGCHLD) {
            int status;
            for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                if (pid == child) {
                    kill(-child, SIGTERM);
                    _exit(code_of(status));
                }
            continue;
        }
        if (number == SIGTSTP || number == SIGTTIN || number == SIGTTOU) number = SIGSTOP;
        if (kill(-child, number) != 0) kill(child, number); /* it may not have its session yet */
    }
}

/* ---- redirects --------------------------------------------------------------------------------- */

static int open_redirect(const struct spec *spec, const char *what, const char *path, bool to_write) {
    char whole[PATH_MAX] = "";
    if (*path != '/') append(whole, spec->cwd);
    append(whole, path);
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd;
    if (!to_write) {
        fd = open_in_root(root, whole, O_RDONLY | O_NONBLOCK, 0);
    } else {
        fd = open_in_root(root, whole, O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (fd >= 0 && fchown(fd, spec->uid, spec->gid) != 0)
            fail('F', errno, "open redirect %s file: open %s", what, path);
        if (fd < 0 && errno == EEXIST)
            fd = open_in_root(root, whole, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0600);
    }
    struct stat entry;
    if (fd < 0 || fstat(fd, &entry) != 0) fail('F', errno, "open redirect %s file: open %s", what, path);
    if (S_ISDIR(entry.st_mode)) fail('F', EISDIR, "open redirect %s file: open %s", what, path);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    close(root);
    return fd;
}

static void report_ready(const struct spec *spec) {
    int fds[2];
    size_t count = 0;
    if (*spec->in) {
        int fd = open_redirect(spec, "stdin", spec->in, false);
        if (dup2(fd, 0) < 0) fail('F', errno, "open redirect stdin file: %s", spec->in);
        close(fd);
    }
    if (*spec->out) fds[count++] = open_redirect(spec, "stdout", spec->out, true);
    if (*spec->err) fds[count++] = open_redirect(spec, "stderr", spec->err, true);
    if (spec->flags & F_HANDSHAKE) {
        char go;
        send_message("R", 1, fds, count);
        if (recv(status_fd, &go, 1, 0) != 1) _exit(1);
    }
    for (size_t i = 0; i < count; i++) close(fds[i]);
}

/* ---- processes --------------------------------------------------------------------------------- */

/* Ask to be killed with the parent; true if it is still there, which the lifeline tells. */
static bool tie_to_parent(int lifeline) {
    struct pollfd end = {.fd = lifeline};
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && poll(&end, 1, 0) == 0;
}

static _Noreturn void be_container(struct spec *spec, int netns, int lifeline) {
    bool joins = spec->flags & F_JOIN;
    if (!tie_to_parent(lifeline)) _exit(1);
    umask(0);
    if (!joins) {
        setsid();
        if (netns >= 0 && syscall(SYS_setns, netns, CLONE_NEWNET) != 0) fail('E', errno, "enter network `%s`", spec->netns);
        if (netns < 0 && (spec->flags & F_HOST_NETWORK) == 0) raise_loopback();
        if (sethostname(spec->hostname, strlen(spec->hostname)) != 0) fail('E', errno, "set the host name");
        enter_root(spec);
    }
    umask(022);
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int cwd = reach(root, spec->cwd, true, spec->uid, spec->gid);
    if (fchdir(cwd) != 0) fail('E', errno, "change to directory `%s`", spec->cwd);
    close(root);
    close(cwd);
    report_ready(spec);
    /* A keyring of its own: root's is shared by every process of the host. */
    if (syscall(SYS_keyctl, 1 /* join a session keyring */, NULL) < 0 && errno != ENOSYS && errno != EDQUOT)
        fail('E', errno, "make a keyring");
    drop_privileges(spec);
    if (!tie_to_parent(lifeline)) _exit(1); /* a change of user has undone it */
    close(lifeline);
    close(status_fd);
    /* Nothing of the engine's may be inherited, whatever it forgot to mark. */
    if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0) _exit(1);
    if (joins || (spec->flags & F_INIT) == 0) run_command(spec->argv, spec->env);
    be_init(spec->argv, spec->env);
}

/* Wait for the container; any signal but the one of its end kills it. */
static _Noreturn void be_monitor(pid_t child) {
    sigset_t all;
    sigfillset(&all);
    for (;;) {
        siginfo_t info;
        int status, number = sigwaitinfo(&all, &info);
        if (number < 0) continue;
        if (number != SIGCHLD) kill(child, SIGKILL);
        else if (waitpid(child, &status, WNOHANG) == child) _exit(code_of(status));
    }
}

int main(int argc, char **argv, char **env) {
    if (argc > 2 && strcmp(argv[1], "init") == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) refuse("prctl: %s\n", reason(errno));
        be_init(argv + 2, env);
    }
    if (fcntl(STATUS_FD, F_SETFD, FD_CLOEXEC) != 0) refuse("usage: launcher init COMMAND...\n");
    status_fd = STATUS_FD;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    static struct spec spec;
    read_spec(&spec);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0) fail('E', errno, "tie the container to the engine");
    if ((uint32_t)getppid() != spec.engine_pid) _exit(1);
    int netns = -1, lifeline[2], pidfd = -1;
    if (*spec.netns && (netns = open(spec.netns, O_RDONLY | O_CLOEXEC)) < 0) fail('E', errno, "open network `%s`", spec.netns);
    if (pipe2(lifeline, O_CLOEXEC) != 0) fail('E', errno, "make a pipe");
    uint64_t namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
    if (netns < 0 && (spec.flags & F_HOST_NETWORK) == 0) namespaces |= CLONE_NEWNET;
    if (spec.flags & F_JOIN) {
        if (syscall(SYS_setns, JOIN_FD, namespaces | CLONE_NEWNET) != 0) fail('E', errno, "join the container");
        namespaces = 0;
    } else {
        struct statfs groups;
        has_cgroup2 = statfs("/sys/fs/cgroup", &groups) == 0 && groups.f_type == CGROUP2_SUPER_MAGIC;
        if (has_cgroup2) namespaces |= CLONE_NEWCGROUP;
    }
    struct clone_args how = {.flags = namespaces | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    pid_t child = (pid_t)syscall(SYS_clone3, &how, sizeof how);
    if (child < 0) fail('E', errno, "make namespaces");
    if (child == 0) {
        close(lifeline[1]);
        be_container(&spec, netns, lifeline[0]);
    }
    close(lifeline[0]);
    if (spec.flags & F_HANDSHAKE) send_message("P", 1, &pidfd, 1);
    close(status_fd);
    for (int fd = 0; fd < 3; fd++) close(fd);
    be_monitor(child);
}
