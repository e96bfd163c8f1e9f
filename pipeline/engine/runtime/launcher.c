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
 * lead out of it. Called as `launcher serve`, with a socket as descriptor 3, it starts launchers (launcher_serve.c).
 * Called as `launcher init COMMAND...` it is only the init, for an OCI runtime; called as
 * `launcher filter` it prints the system call filter, for a runner that takes one. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher.h"
#include "launcher_seccomp.h"

/* CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD
 * AUDIT_WRITE SETFCAP */
static const int kept_capabilities[] = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31};

/* ---- privileges -------------------------------------------------------------------------------- */

/* A user who was lent no ids keeps the groups they have, and none of them is known in the container. */
static bool keeps_groups(void) {
    char text[4];
    int fd = open("/proc/self/setgroups", O_RDONLY | O_CLOEXEC);
    bool denied = fd >= 0 && read(fd, text, sizeof text) == sizeof text && memcmp(text, "deny", sizeof text) == 0;
    if (fd >= 0) close(fd);
    return denied;
}

static const char *unmapped(void) {
    return errno == EINVAL ? ", which is not mapped here (`pipeline doctor` says how it can be)" : "";
}

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
    /* With other bits than none, a change of user would keep capabilities. */
    if (prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) != 0 && prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) != 0)
        fail('E', errno, "reset the secure bits");
    if (setgroups(spec->group_count, spec->groups) != 0 && !keeps_groups()) fail('E', errno, "set groups");
    if (setresgid(spec->gid, spec->gid, spec->gid) != 0) fail('E', errno, "become group %u%s", spec->gid, unmapped());
    /* Before the privilege to do so is gone; the calls below are ones that the filter allows. */
    if (!insecure && install_filter() != 0) fail('E', errno, "install the system call filter");
    if (setresuid(spec->uid, spec->uid, spec->uid) != 0) fail('E', errno, "become user %u%s", spec->uid, unmapped());
    /* Inheritable ones too, which a change of user keeps: a file's could add to them beyond the bounding set. */
    if (spec->uid != 0) kept = 0;
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
static void raise_loopback(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) != 0) fail('E', errno, "bring loopback up");
    request.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &request) != 0) fail('E', errno, "bring loopback up");
    close(fd);
}

/* Ask to be killed with the parent; true if it is still there, which the lifeline tells. */
static bool tie_to_parent(int lifeline) {
    struct pollfd end = {.fd = lifeline};
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && poll(&end, 1, 0) == 0;
}

/* Open while the host's file systems are in sight. */
static void open_cgroups(struct spec *spec) {
    char path[PATH_MAX];
    for (uint32_t i = 0; i < spec->cgroup_count; i++) {
        int size = snprintf(path, sizeof path, "%s/cgroup.procs", spec->cgroups[i]);
        int fd = size < (int)sizeof path ? open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
        if (fd < 0) fail('E', errno, "open control group `%s`", spec->cgroups[i]);
        spec->cgroup_fds[i] = fd;
    }
}

/* The container's first process moves itself, before it starts anything: no other ever was outside. */
static void enter_cgroups(const struct spec *spec) {
    for (uint32_t i = 0; i < spec->cgroup_count; i++) {
        if (write(spec->cgroup_fds[i], "0", 1) != 1) fail('E', errno, "enter control group `%s`", spec->cgroups[i]);
        close(spec->cgroup_fds[i]);
    }
}

static _Noreturn void be_container(struct spec *spec, int netns, int lifeline) {
    bool joins = spec->flags & F_JOIN;
    if (!tie_to_parent(lifeline)) _exit(1);
    enter_cgroups(spec);
    /* Now, so that the leaf is the root of what it shows. */
    if (!joins && has_cgroup2 && syscall(SYS_unshare, CLONE_NEWCGROUP) != 0) fail('E', errno, "make a control group namespace");
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
    if (argc == 2 && strcmp(argv[1], "filter") == 0) {
        size_t count;
        const struct sock_filter *filter = build_filter(&count);
        return filter == NULL || fwrite(filter, sizeof *filter, count, stdout) != count || fflush(stdout) != 0;
    }
    /* Until the command runs nobody may look into this process, which knows secrets and the host. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) refuse("prctl: %s\n", reason(errno));
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    if (argc == 2 && strcmp(argv[1], "serve") == 0) serve();
    if (fcntl(STATUS_FD, F_SETFD, FD_CLOEXEC) != 0) refuse("usage: launcher serve, or launcher init COMMAND...\n");
    status_fd = STATUS_FD;
    static struct spec spec;
    read_spec(&spec);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0) fail('E', errno, "tie the container to the engine");
    if ((uint32_t)getppid() != spec.engine_pid) _exit(1);
    int netns = -1, lifeline[2], pidfd = -1;
    if (*spec.netns && (netns = open(spec.netns, O_RDONLY | O_CLOEXEC)) < 0) fail('E', errno, "open network `%s`", spec.netns);
    if (pipe2(lifeline, O_CLOEXEC) != 0) fail('E', errno, "make a pipe");
    open_cgroups(&spec);
    uint64_t namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
    if (netns < 0 && (spec.flags & F_HOST_NETWORK) == 0) namespaces |= CLONE_NEWNET;
    if (spec.flags & F_JOIN) {
        if (syscall(SYS_setns, JOIN_FD, namespaces | CLONE_NEWNET) != 0) fail('E', errno, "join the container");
        namespaces = 0;
    } else {
        struct statfs groups;
        has_cgroup2 = statfs("/sys/fs/cgroup", &groups) == 0 && groups.f_type == CGROUP2_SUPER_MAGIC;
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
