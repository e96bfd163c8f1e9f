/* Makes the file systems of a container, in the mount namespace of the calling process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "launcher.h"

#define MNT_DETACH 2
#define STAGING "/sys" /* covered in the child's own mount namespace only */

/* ---- paths inside the container --------------------------------------------------------------- */

int open_in_root(int root, const char *path, uint64_t flags, uint64_t mode) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    for (int attempt = 0;; attempt++) {
        long fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
        /* EAGAIN: somebody renamed directories meanwhile, so "inside" could not be proved. */
        if (fd >= 0 || errno != EAGAIN || attempt == 100) return (int)fd;
    }
}

/* Append `name` to `path`, which has room for PATH_MAX bytes. */
void append(char *path, const char *name) {
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
int reach(int root, const char *path, bool is_dir, uid_t uid, gid_t gid) {
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

static bool in_user_namespace(void) {
    char map[64] = "";
    int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, map, sizeof map - 1) < 0) fail('E', errno, "read the map of user ids");
    close(fd);
    unsigned long inside, outside, count;
    return sscanf(map, "%lu %lu %lu", &inside, &outside, &count) != 3 || inside != 0 || outside != 0 || count != 4294967295UL;
}

/* The first is "off", in the one spelling that goes with `userxattr`. */
static const char *const overlay_options[][2] = {
    {"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"}, {"xino", "off"}};

/* For kernels before 6.7, which take all layers in one page of text. */
static int old_overlay(const struct short_name *names, const struct overlay *overlay, size_t layers) {
    char page[4096];
    size_t used = (size_t)snprintf(page, sizeof page, "%sredirect_dir=nofollow,metacopy=off,index=off,xino=off,",
                                   in_user_namespace() ? "userxattr," : "");
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
        /* Attributes of the kind `trusted.` are out of reach there. */
        if (in_user_namespace() && syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) != 0)
            fail('E', errno, "set overlay option `userxattr`");
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

static void prepare(struct mount *mount, bool nodev) {
    if (mount->kind == M_OVERLAY) mount->fd = part_of(new_overlay(&mount->overlay), mount->source);
    else if (mount->kind == M_BIND) mount->fd = clone_tree(AT_FDCWD, mount->source);
    else if (mount->kind == M_TMPFS) mount->fd = new_mount("tmpfs", mount->options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    else mount->fd = new_file(mount);
    if (mount->fd < 0) fail('E', errno, "mount `%s`", mount->source);
    struct stat entry;
    if (fstat(mount->fd, &entry) != 0) fail('E', errno, "mount at `%s`", mount->target);
    mount->is_dir = S_ISDIR(entry.st_mode);
    bool read_only = mount->kind == M_FILE || mount->read_only;
    uint64_t attributes = (read_only ? MOUNT_ATTR_RDONLY : 0) | (nodev ? MOUNT_ATTR_NODEV : 0);
    if (attributes != 0 && set_attributes(mount->fd, attributes) != 0)
        fail('E', errno, "restrict the mount at `%s`", mount->target);
}

/* Returns the mount, as a directory to look into: a path could lead elsewhere by the time it is asked again. */
static int attach_at(int root, int mount, const char *target, bool is_dir) {
    int fd = reach(root, target, is_dir, 0, 0);
    if (attach(mount, fd, "") != 0) fail('E', errno, "mount at `%s`", target);
    close(fd);
    return mount;
}

/* ---- the container's own file systems ---------------------------------------------------------- */

/* Make a device file; in a user namespace, where nobody may, show the host's own. One that it lacks nobody needs. */
static void make_device(int dev, const char *name, mode_t mode, unsigned major, unsigned minor) {
    if (mknodat(dev, name, mode, makedev(major, minor)) == 0) return;
    char path[32];
    snprintf(path, sizeof path, "/dev/%s", name);
    int saved = errno, node = -1, cover = -1;
    if (saved == EPERM && access(path, F_OK) != 0) return;
    if (saved == EPERM && mknodat(dev, name, S_IFREG | 0600, 0) == 0)
        node = openat(dev, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (node >= 0) cover = clone_tree(AT_FDCWD, path);
    if (cover < 0 || attach(cover, node, "") != 0) fail('E', saved, "make device `%s`", name);
    close(cover);
    close(node);
}

/* Lay a device over itself, which lets it be used on a file system whose devices cannot. */
static void keep_device(int dev, const char *name) {
    int node = openat(dev, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int cover = node < 0 ? -1 : clone_tree(node, "");
    if (cover < 0 || attach(cover, node, "") != 0) fail('E', errno, "keep device `%s`", name);
    close(cover);
    close(node);
}

static void make_devices(int dev, bool insecure, bool nodev) {
    static const struct { const char *name; unsigned major, minor; } nodes[] = {
        {"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
        {"kmsg", 1, 11}, {"cuse", 10, 203}, {"fuse", 10, 229}, {"kvm", 10, 232}, {"loop-control", 10, 237}};
    static const char *const links[][2] = {{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"},
        {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}};
    size_t count = insecure ? sizeof nodes / sizeof *nodes : 6;
    for (size_t i = 0; i < count; i++)
        make_device(dev, nodes[i].name, S_IFCHR | 0666, nodes[i].major, nodes[i].minor);
    for (size_t i = 0; i < count && nodev; i++) keep_device(dev, nodes[i].name);
    if (nodev && set_attributes(dev, MOUNT_ATTR_NODEV) != 0) fail('E', errno, "restrict `/dev`");
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlinkat(links[i][0], dev, links[i][1]) != 0) fail('E', errno, "link `/dev/%s`", links[i][1]);
    if (insecure) {
        char name[16];
        for (unsigned i = 0; i < 8; i++) {
            snprintf(name, sizeof name, "loop%u", i);
            make_device(dev, name, S_IFBLK | 0660, 7, i);
        }
        if (mkdirat(dev, "net", 0755) != 0) fail('E', errno, "make device `net/tun`");
        make_device(dev, "net/tun", S_IFCHR | 0666, 10, 200);
    }
}

struct system { int proc, dev, sys; };

/* The network's owner alone may mount sysfs: root of a user namespace does not own the host's, and shows the host's. */
static int new_sys(const struct spec *spec, uint64_t shown) {
    if ((spec->flags & F_HOST_NETWORK) == 0 || !in_user_namespace()) return new_mount("sysfs", "", shown);
    int tree = clone_tree(AT_FDCWD, "/sys");
    struct mount_attr change = {.attr_set = shown};
    if (tree < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &change, sizeof change) != 0)
        fail('E', errno, "show `/sys`");
    return tree;
}

static const uint64_t plain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/* Terminals belong to group 5; a user who was lent no ids has no such group. */
static const char *terminal_options(void) {
    unsigned long inside, outside, count;
    bool has_group = false;
    FILE *map = fopen("/proc/self/gid_map", "re");
    if (map == NULL) fail('E', errno, "read the map of group ids");
    while (fscanf(map, "%lu %lu %lu", &inside, &outside, &count) == 3)
        if (inside <= 5 && 5 - inside < count) has_group = true;
    fclose(map);
    return has_group ? "newinstance,ptmxmode=0666,mode=0620,gid=5" : "newinstance,ptmxmode=0666,mode=0620";
}

static struct system mount_system(int root, const struct spec *spec, int sys, uint64_t shown) {
    bool insecure = spec->flags & F_INSECURE;
    struct system system;
    system.proc = attach_at(root, new_mount("proc", "", plain), "/proc", true);
    system.dev = attach_at(root, new_mount("tmpfs", "mode=755,size=65536k", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME), "/dev", true);
    make_devices(system.dev, insecure, spec->flags & F_NODEV);
    close(attach_at(system.dev, new_mount("devpts", terminal_options(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC), "pts", true));
    close(attach_at(system.dev, new_mount("tmpfs", "mode=1777,size=65536k", plain), "shm", true));
    close(attach_at(system.dev, new_mount("mqueue", "", plain), "mqueue", true));
    system.sys = attach_at(root, sys, "/sys", true);
    int groups = open_in_root(system.sys, "fs/cgroup", O_PATH | O_DIRECTORY, 0);
    if (groups >= 0 && (spec->flags & F_HOST_NETWORK) == 0 && has_cgroup2)
        close(attach_at(system.sys, new_mount("cgroup2", "", shown), "fs/cgroup", true));
    if (groups >= 0) close(groups);
    return system;
}

/* Cover what tells about the host or changes it, in the very mounts that were made for it. */
static void hide(const struct system *system) {
    static const struct { bool in_sys; const char *path; } masked[] = {{false, "acpi"}, {false, "asound"},
        {false, "kcore"}, {false, "keys"}, {false, "latency_stats"}, {false, "timer_list"}, {false, "timer_stats"},
        {false, "sched_debug"}, {false, "scsi"}, {true, "firmware"}, {true, "devices/virtual/powercap"}};
    static const char *const read_only[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};
    int null = open_in_root(system->dev, "null", O_PATH, 0);
    int nothing = -1;
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
        int target = open_in_root(masked[i].in_sys ? system->sys : system->proc, masked[i].path, O_PATH, 0);
        struct stat entry;
        if (target < 0 && errno == ENOENT) continue; /* this kernel does not have it */
        if (target < 0 || fstat(target, &entry) != 0) fail('E', errno, "hide `%s`", masked[i].path);
        int cover = -1;
        if (!S_ISDIR(entry.st_mode)) cover = clone_tree(null, "");
        else if (nothing < 0) cover = nothing = new_mount("tmpfs", "mode=755", MOUNT_ATTR_RDONLY);
        else cover = clone_tree(nothing, "");
        if (cover < 0 || attach(cover, target, "") != 0) fail('E', errno, "hide `%s`", masked[i].path);
        if (cover != nothing) close(cover);
        close(target);
    }
    for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
        int target = open_in_root(system->proc, read_only[i], O_PATH, 0);
        if (target < 0 && errno == ENOENT) continue;
        int cover = target < 0 ? -1 : clone_tree(target, "");
        if (cover < 0 || set_attributes(cover, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC) != 0 ||
            attach(cover, target, "") != 0)
            fail('E', errno, "protect `/proc/%s`", read_only[i]);
        close(cover);
        close(target);
    }
    if (nothing >= 0) close(nothing);
    close(null);
}

/* Leave the host's file systems for the container's. */
void enter_root(struct spec *spec) {
    bool nodev = spec->flags & F_NODEV;
    if (syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail('E', errno, "make mounts private");
    int tree = new_overlay(&spec->rootfs);
    if (nodev && set_attributes(tree, MOUNT_ATTR_NODEV) != 0) fail('E', errno, "restrict the root");
    for (uint32_t i = 0; i < spec->mount_count; i++) prepare(&spec->mounts[i], nodev);
    uint64_t shown = plain | (spec->flags & F_INSECURE ? 0 : MOUNT_ATTR_RDONLY);
    int sys = new_sys(spec, shown); /* while the host's is not covered */
    if (attach(tree, AT_FDCWD, STAGING) != 0) fail('E', errno, "attach the root");
    close(tree);
    int root = open(STAGING, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fchdir(root) != 0) fail('E', errno, "enter the root");
    struct system system = mount_system(root, spec, sys, shown);
    /* Before the mounts that users asked for, which may lie on top. */
    if ((spec->flags & F_INSECURE) == 0) hide(&system);
    close(system.proc);
    close(system.dev);
    close(system.sys);
    for (uint32_t i = 0; i < spec->mount_count; i++)
        close(attach_at(root, spec->mounts[i].fd, spec->mounts[i].target, spec->mounts[i].is_dir));
    if (syscall(SYS_pivot_root, ".", ".") != 0 || syscall(SYS_umount2, ".", MNT_DETACH) != 0 || chdir("/") != 0)
        fail('E', errno, "change the root");
    close(root);
}
